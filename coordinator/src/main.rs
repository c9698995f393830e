//! The program `coordinator`: parses and wires; `coordinator::run` does the rest.

use std::{env, path::Path, process::ExitCode};

use coordinator::{
    args::Args,
    config::{Config, command_line},
};
use runtime::{
    exit::{self, Code, WithCode},
    shutdown::Shutdown,
    telemetry,
};

fn main() -> ExitCode {
    match exit::parse::<Args>() {
        Ok(args) => exit::report(start(args)),
        Err(code) => code,
    }
}

#[tokio::main]
async fn start(args: Args) -> anyhow::Result<Code> {
    telemetry::init("coordinator");
    let shutdown = Shutdown::on_signals()?;
    let program = env::current_exe()?;
    let siblings = program.parent().unwrap_or(Path::new("/"));
    let config = Config::new(args, siblings, command_line(env::args())).code(Code::Misconfigured)?;
    let listener = coordinator::listen(config.listen).await?;
    coordinator::run(config, listener, shutdown).await
}
