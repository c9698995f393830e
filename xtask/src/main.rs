//! The developer's side of vared: set-up, the demo, the gate and the house rules, as one small program.
//!
//! `cargo xtask --help` lists what it can do. It depends on no crate of the workspace and on few others: it is the
//! first thing that a newcomer builds.

mod chart;
mod cuda;
mod demo;
mod gate;
mod interop;
mod process;
mod rehearse;
mod setup;
mod stores;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::demo::DemoArgs;
use crate::gate::Gate;
use crate::interop::InteropArgs;
use crate::rehearse::RehearseArgs;
use crate::setup::{Device, Setup};
use crate::workspace::Workspace;

/// What the command line holds.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set-up, demo, tests and house rules of vared")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Puts libtorch and FFmpeg's libraries in place; a second run only checks them
    Setup(SetupArgs),
    /// Trains the demo on real clips, the backbone first, then the dynamic network, and prints the comparison
    Demo(DemoArgs),
    /// Sets up, then runs the gate: what CI runs on a fresh clone
    Test,
    /// Runs the gate without set-up; changes no file, the cheapest check first
    Ci,
    /// Checks the house rules: sizes, names, forbidden words, who depends on whom
    Tidy,
    /// Tests the Helm chart and the container files without a cluster: lints, renders, validates, asserts
    Chart,
    /// Trains in network namespaces what the chart renders, disturbs the run, and compares the weights; as root, two minutes
    Rehearse(RehearseArgs),
    /// Builds Debian roots with the services without libtorch, and runs them as pods; as root, some minutes
    Images,
    /// Builds what runs on GPUs into target/cuda, on a machine with or without one, and loads it
    ///
    /// Fetches libtorch's CUDA half and nvcc into .deps (2.6 GB to download, 3.5 GB on disk) unless they are there, compiles what
    /// is out of date of libvared_nccl.so and libvared_kernels.so, and loads both beside libtorch in a process of its own: a
    /// missing symbol is found here. A worker finds them in target/cuda; elsewhere, put them beside it, or name their folder
    /// in VARED_CUDA.
    Cuda,
    /// Exchanges weights with PyTorch in both directions and compares what both compute; some minutes
    Interop(InteropArgs),
    /// Runs the tests of stores against a real S3 server, SeaweedFS, which it fetches (48 MB)
    Stores,
    /// Formats, and applies what clippy can fix by itself
    Fix,
}

#[derive(clap::Args)]
struct SetupArgs {
    /// Fetch the CUDA half too, though no GPU is seen here (2.5 GB to download, 3.2 GB on disk)
    #[arg(long, conflicts_with = "cpu")]
    cuda: bool,
    /// Do without the CUDA half, though a GPU is seen
    #[arg(long)]
    cpu: bool,
    /// Folder for what is fetched; builds look in `.deps` of the checkout only
    #[arg(long, value_name = "DIR", default_value = ".deps")]
    deps: PathBuf,
}

impl SetupArgs {
    fn device(&self) -> Device {
        match (self.cuda, self.cpu) {
            (true, _) => Device::Cuda,
            (_, true) => Device::Cpu,
            _ => Device::seen_here(),
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let workspace = Workspace::of_this_program()?;
    match args.task {
        Task::Setup(args) => Setup::new(workspace.root().join(&args.deps), args.device()).run(),
        Task::Demo(args) => demo::run(&workspace, &args),
        Task::Test => {
            Setup::of(&workspace).run()?;
            Gate::new(&workspace).run()
        }
        Task::Ci => Gate::new(&workspace).run(),
        Task::Tidy => tidy::run(&workspace),
        Task::Chart => chart::run(&workspace),
        Task::Rehearse(args) => rehearse::run(&workspace, &args),
        Task::Images => rehearse::images(&workspace),
        Task::Cuda => cuda::run(&workspace),
        Task::Interop(args) => interop::run(&workspace, &args),
        Task::Stores => stores::run(&workspace),
        Task::Fix => gate::fix(&workspace),
    }
}
