//! The worker's executable: parse, wire, run.

use std::process::ExitCode;

use anyhow::Context;
use runtime::exit::{self, Code};
use runtime::shutdown::Shutdown;
use runtime::telemetry;
use worker::args::Args;

fn main() -> ExitCode {
    worker::device::memory::keep_freed();
    match exit::parse::<Args>() {
        Ok(args) => exit::report(start(args)),
        Err(code) => code,
    }
}

fn start(args: Args) -> anyhow::Result<Code> {
    telemetry::init("worker");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The device thread computes; these only move bytes.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the worker's event loop")?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("can't listen to signals")?;
        worker::run(args, shutdown).await
    });
    // A device thread that is stuck in a collective must not hold the process.
    runtime.shutdown_background();
    outcome
}
