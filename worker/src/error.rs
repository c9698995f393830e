//! What can go wrong in a worker, and what the coordinator is told of it.

use std::fmt::Display;

use proto::coordinator::Fault;

/// A wrong value on the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Out of bounds.
    #[error("{flag} is {value}: it must be {bound}")]
    Field {
        /// The flag.
        flag: &'static str,
        /// As typed.
        value: String,
        /// What would do.
        bound: String,
    },
    /// Refused by whoever reads it.
    #[error("{flag}: {problem}")]
    Other {
        /// The flag.
        flag: &'static str,
        /// In the reader's words.
        problem: String,
    },
}

impl ConfigError {
    /// A value out of bounds.
    pub fn field(flag: &'static str, value: impl Display, bound: impl Into<String>) -> Self {
        Self::Field { flag, value: value.to_string(), bound: bound.into() }
    }

    /// A value that its reader refused.
    pub fn other(flag: &'static str, problem: impl Display) -> Self {
        Self::Other { flag, problem: problem.to_string() }
    }
}

/// Why a worker can't go on in its generation. The text is a whole sentence for the run's summary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The recipe or the command line: restarting does not help.
    #[error("{0}")]
    Configuration(String),
    /// Store, decoder or files.
    #[error("{0}")]
    Data(String),
    /// A peer went away inside a collective.
    #[error("{0}")]
    Collective(String),
    /// A number got lost, memory ran out, a kernel failed.
    #[error("{0}")]
    Compute(String),
    /// An upload failed; training goes on.
    #[error("{0}")]
    Checkpoint(String),
}

impl WorkerError {
    /// The same on the wire.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Configuration(_) => Fault::Configuration,
            Self::Data(_) => Fault::Data,
            Self::Collective(_) => Fault::Collective,
            Self::Compute(_) => Fault::Compute,
            Self::Checkpoint(_) => Fault::Checkpoint,
        }
    }
}

/// An error and its causes in one line.
pub fn in_one_line(error: impl Into<anyhow::Error>) -> String {
    runtime::exit::one_line(&error.into())
}
