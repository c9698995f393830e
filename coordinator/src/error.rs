//! What is wrong with the configuration. Each variant names the field, its value, and what to do.

use std::{io, net::SocketAddr, path::PathBuf};

use cluster::{ids::RunName, limits::LimitError, recipe::RecipeError};
use thiserror::Error;

/// A configuration that can't be run. The exit code is 78: trying again does not help.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No embedded recipe has this name.
    #[error("no recipe is called `{recipe}`; known are {known}, or give the path of a .toml file")]
    UnknownRecipe {
        /// As typed.
        recipe: String,
        /// The embedded ones.
        known: String,
    },
    /// The recipe's file can't be read.
    #[error("can't read the recipe {recipe}")]
    UnreadableRecipe {
        /// Its path.
        recipe: String,
        /// Why.
        source: io::Error,
    },
    /// The recipe itself is wrong.
    #[error("{recipe}: {source}")]
    Recipe {
        /// Its name or path.
        recipe: String,
        /// What is wrong.
        source: RecipeError,
    },
    /// The time limits don't fit.
    #[error("--patience: {0}")]
    Patience(LimitError),
    /// More workers than lanes.
    #[error(
        "--workers is {workers}, but the recipe has {lanes} lanes and each worker carries one or more; use --workers \
         {lanes}, or --set run.lanes={workers} in a new run"
    )]
    TooManyWorkers {
        /// Asked for.
        workers: u32,
        /// In the recipe.
        lanes: u32,
    },
    /// The fewest are more than all.
    #[error("--min-workers is {min_workers}; it must be at most --workers ({workers})")]
    MinWorkers {
        /// Asked for.
        min_workers: u32,
        /// All.
        workers: u32,
    },
    /// A program that is to be launched is not there.
    #[error("the program {program} is not there; build it with `cargo build -p {package}`, or use --external")]
    NoProgram {
        /// Where it was looked for.
        program: PathBuf,
        /// The package that it is in.
        package: &'static str,
    },
    /// The address can't be bound.
    #[error("can't listen on {address}; choose another with --listen")]
    Listen {
        /// As typed.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The log folder can't be written.
    #[error("can't write logs to {}; choose another folder with --log-dir", folder.display())]
    LogDir {
        /// As typed, with the run's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run was created with another recipe.
    #[error(
        "the run `{run}` was created with another recipe ({changes}); start it with that recipe, or give this one \
         another name with --run"
    )]
    OtherRecipe {
        /// The run.
        run: RunName,
        /// What differs, field by field.
        changes: String,
    },
}
