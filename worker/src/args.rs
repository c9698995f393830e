//! The command line, as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// One device of a vared run.
#[derive(Debug, Parser)]
#[command(name = "worker", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a worker can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a run and compute for it until it ends.
    Run(RunArgs),
    /// Evaluate a run's checkpoint on the held-out clips by skipping inference, and write a summary.
    Eval(EvalArgs),
}

/// Options of `worker run`.
#[derive(Debug, Parser)]
pub struct RunArgs {
    /// Where the coordinator listens.
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    /// This worker's seat; stays the same over restarts.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Where to compute: cpu, cuda:N, or auto (the first GPU, else the CPU).
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// How many steps ahead clips are asked for.
    #[arg(long, value_name = "STEPS", default_value_t = 4)]
    pub prefetch: u32,
}

/// Options of `worker eval`.
#[derive(Debug, Parser)]
pub struct EvalArgs {
    /// The store that holds the run.
    #[arg(long, value_name = "URL", default_value = ".vared")]
    pub store: String,
    /// The run.
    #[arg(long, value_name = "RUN")]
    pub run: String,
    /// Another run to compare with, usually its plain backbone.
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<String>,
    /// Which checkpoint of the run: latest, or a step.
    #[arg(long, value_name = "STEP", default_value = "latest")]
    pub checkpoint: String,
    /// Where to write the summary as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only the first so many held-out clips.
    #[arg(long, value_name = "N")]
    pub clips: Option<u64>,
    /// A running loader to ask, instead of starting one.
    #[arg(long, value_name = "URL")]
    pub loader: Option<String>,
    /// Where to compute: cpu, cuda:N, or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}
