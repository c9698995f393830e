//! The program `coordinator`: parses and wires; `coordinator::run` does the rest.

use std::{env, path::Path, process::ExitCode};

use coordinator::{
    args::{Cli, Command},
    checkpoints,
    config::{Config, command_line},
};
use runtime::{
    exit::{self, Code, WithCode},
    shutdown::Shutdown,
    telemetry,
};

fn main() -> ExitCode {
    match exit::parse::<Cli>() {
        Ok(cli) => exit::report(start(cli)),
        Err(code) => code,
    }
}

#[tokio::main]
async fn start(cli: Cli) -> anyhow::Result<Code> {
    telemetry::init("coordinator");
    let Cli { command, run: args } = cli;
    if let Some(Command::Checkpoints(command)) = command {
        return checkpoints::run(command).await;
    }
    let shutdown = Shutdown::on_signals()?;
    let program = env::current_exe()?;
    let siblings = program.parent().unwrap_or(Path::new("/"));
    let config = Config::new(args, siblings, command_line(env::args())).code(Code::Misconfigured)?;
    let listener = coordinator::listen(config.listen).await?;
    coordinator::run(config, listener, shutdown).await
}
