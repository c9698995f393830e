//! The worker: one device that computes its lanes of every step.
//!
//! It decides nothing about the run: the coordinator says which generation it belongs to, where to start and when to
//! stop. It asks loaders for its lanes' clips ahead of time, steps, reports, and stores checkpoints if it is rank 0.
//!
//! [`device`] is the only part that knows libtorch; all else sees it through the trait [`compute::Compute`].

pub mod actors;
pub mod args;
pub mod briefing;
pub mod commands;
pub mod compute;
pub mod config;
pub mod device;
pub mod error;
pub mod itinerary;
pub mod life;

use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;

use args::{Args, Command};

/// Does what the command line asks for.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<Code> {
    match args.command {
        Command::Run(args) => {
            let config = config::RunConfig::try_from(args).code(Code::Misconfigured)?;
            commands::run::run(config, shutdown).await
        }
        Command::Import(args) => commands::import::run(args).await,
        Command::Export(args) => commands::export::run(args).await,
        Command::Forward(args) => commands::forward::run(args).await,
        Command::Profile(args) => commands::profile::run(args).await,
        Command::Eval(args) => {
            let config = config::EvalConfig::try_from(args).code(Code::Misconfigured)?;
            commands::eval::run(config, shutdown).await
        }
        Command::Predict(args) => {
            let config = config::PredictConfig::try_from(args).code(Code::Misconfigured)?;
            commands::predict::run(config, shutdown).await
        }
    }
}
