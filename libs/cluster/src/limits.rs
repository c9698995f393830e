//! Every time limit of a run, derived from one number.
//!
//! `patience` is how long a silent member may stay in the run. All else follows, in an order that must hold: a beat must
//! be missed several times before silence is a verdict, the verdict must come before the survivors' collective gives up
//! (so that the cause is named, not its echo), and whoever forms a new generation gets longer than either.

use std::{fmt, time::Duration};

use thiserror::Error;

/// The time limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A member's silence after which it is gone.
    pub patience: Duration,
    /// Between two beats.
    pub beat: Duration,
    /// How long the first report of a failure waits for others that may name its cause.
    pub settle: Duration,
    /// A collective operation gives up.
    pub collective: Duration,
    /// Waiting for a peer's key when a group forms.
    pub rendezvous: Duration,
    /// From a process's start to its `Hello`, and from a generation's announcement to `Formed`.
    pub join: Duration,
    /// From the wish to stop to the last worker's leave: one step and one checkpoint.
    pub drain: Duration,
    /// One job of a worker's device: a step, or a batch of an evaluation. A worker that beats but computes nothing is found
    /// out by it.
    pub job: Duration,
}

/// Limits that can't work together.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// The one number is out of bounds.
    #[error("patience is {patience:?}; it must be {} to {}", show(MIN_PATIENCE), show(MAX_PATIENCE))]
    Patience {
        /// As given.
        patience: Duration,
    },
    /// Two limits stand the wrong way round.
    #[error("the limit {shorter} ({shorter_is:?}) must be at most {longer} ({longer_is:?})")]
    Nesting {
        /// The one that must be shorter.
        shorter: &'static str,
        /// Its value.
        shorter_is: Duration,
        /// The one that must be longer.
        longer: &'static str,
        /// Its value.
        longer_is: Duration,
    },
}

/// Below this, a busy machine's scheduling is mistaken for death.
pub const MIN_PATIENCE: Duration = Duration::from_millis(500);
/// Above this, a frozen worker holds everybody for longer than a restart of the whole run takes.
pub const MAX_PATIENCE: Duration = Duration::from_secs(3600);
/// Used when nothing else is asked for.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

fn show(duration: Duration) -> String {
    format!("{duration:?}")
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { patience, beat, settle, collective, rendezvous, join, drain, job } = self;
        write!(f, "patience {patience:?}: beat {beat:?}, settle {settle:?}, collective {collective:?}, ")?;
        write!(f, "rendezvous {rendezvous:?}, join {join:?}, drain {drain:?}, job {job:?}")
    }
}

impl Limits {
    /// All limits for a patience.
    pub fn from_patience(patience: Duration) -> Result<Self, LimitError> {
        if !(MIN_PATIENCE..=MAX_PATIENCE).contains(&patience) {
            return Err(LimitError::Patience { patience });
        }
        let limits = Self {
            patience,
            beat: patience / 10,
            settle: patience / 20,
            collective: patience + patience / 10,
            rendezvous: patience * 3,
            join: patience * 6,
            drain: patience * 6,
            job: patience * 12,
        };
        limits.nested()
    }

    /// Refuses limits that do not nest.
    pub fn nested(self) -> Result<Self, LimitError> {
        let pairs = [
            ("3 beats", self.beat * 3, "patience", self.patience),
            ("settle", self.settle, "beat", self.beat),
            ("patience", self.patience, "collective", self.collective),
            ("collective", self.collective, "rendezvous", self.rendezvous),
            ("rendezvous", self.rendezvous, "join", self.join),
            ("collective", self.collective, "drain", self.drain),
            ("join", self.join, "job", self.job),
        ];
        for (shorter, shorter_is, longer, longer_is) in pairs {
            if shorter_is > longer_is {
                return Err(LimitError::Nesting { shorter, shorter_is, longer, longer_is });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_derive_the_documented_table() {
        let limits = Limits::from_patience(Duration::from_secs(10)).expect("the default works");
        let seconds = [limits.beat, limits.settle, limits.collective, limits.rendezvous, limits.join, limits.drain]
            .map(|d| d.as_secs_f64());
        assert_eq!(seconds, [1.0, 0.5, 11.0, 30.0, 60.0, 60.0]);
        let table =
            "patience 10s: beat 1s, settle 500ms, collective 11s, rendezvous 30s, join 60s, drain 60s, job 120s";
        assert_eq!(limits.to_string(), table);
    }

    #[test]
    fn every_allowed_patience_nests() {
        for patience in [MIN_PATIENCE, DEFAULT_PATIENCE, Duration::from_millis(1234), MAX_PATIENCE] {
            assert!(Limits::from_patience(patience).is_ok(), "{patience:?}");
        }
    }

    #[test]
    fn a_patience_out_of_bounds_is_refused_with_the_bounds() {
        let error = Limits::from_patience(Duration::from_millis(1)).expect_err("too short");
        assert_eq!(error.to_string(), "patience is 1ms; it must be 500ms to 3600s");
        assert!(Limits::from_patience(Duration::from_secs(7200)).is_err());
    }

    #[test]
    fn a_collective_that_gives_up_before_the_verdict_is_refused() {
        let mut limits = Limits::from_patience(DEFAULT_PATIENCE).expect("the default works");
        limits.collective = Duration::from_secs(9);
        let error = limits.nested().expect_err("the echo would come before its cause");
        assert_eq!(error.to_string(), "the limit patience (10s) must be at most collective (9s)");
    }
}
