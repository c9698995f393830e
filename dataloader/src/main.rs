//! The `dataloader` program.

use std::process::ExitCode;

use dataloader::args::{Args, Command};
use dataloader::commands;
use runtime::exit::{self, Code, WithCode};

fn main() -> ExitCode {
    let args: Args = match exit::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    runtime::telemetry::init("dataloader");
    exit::report(run(args))
}

fn run(args: Args) -> anyhow::Result<Code> {
    // Before there are other threads: it is alone with its file.
    if let Command::DecodeChild(args) = &args.command {
        return dataloader::decoder::child::main(args.memory_bytes);
    }
    // Before there are other threads, too.
    if matches!(args.command, Command::Serve(_) | Command::Bench(_)) {
        dataloader::data::memory::keep_freed();
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().code(Code::Failed)?;
    let outcome = tokio.block_on(async {
        let shutdown = runtime::shutdown::Shutdown::on_signals()?;
        match args.command {
            Command::Serve(args) => commands::serve::main(args, shutdown).await,
            Command::Pack(args) => commands::pack::main(args, shutdown).await,
            Command::Check(args) => commands::check::main(args, shutdown).await,
            Command::Index(args) => commands::index::main(args, shutdown).await,
            Command::Demo(args) => commands::demo::main(args, shutdown).await,
            Command::View(args) => commands::view::main(args).await,
            Command::Bench(args) => commands::bench::main(args, shutdown).await,
            Command::DecodeChild(_) => unreachable!("it has ended above"),
        }
    });
    // A decode that still runs must not hold up the end.
    tokio.shutdown_background();
    outcome
}
