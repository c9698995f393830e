//! I4: committed checkpoints only grow, and a reader sees all of one or none.

use std::time::Duration;

use checkpoint::Reader;
use cluster::{
    ids::RunName,
    ledger::{Entry, Ledger},
    report::Commit,
};
use futures::FutureExt;

use super::Invariant;
use crate::{facts::Fact, scenario::Scenario, store::Depot};

/// Replays the journal as it is written, and reads every checkpoint as a reader does.
pub struct CheckpointsOnlyGrow {
    run: RunName,
    depot: Depot,
    ledger: Ledger,
    written: u64,
}

impl CheckpointsOnlyGrow {
    /// An empty journal.
    pub fn new(scenario: &Scenario, depot: &Depot) -> Self {
        Self { run: scenario.run(), depot: depot.clone(), ledger: Ledger::default(), written: 0 }
    }

    fn add(&mut self, number: u64, entry: &Entry) -> Result<(), String> {
        if number != self.written + 1 {
            return Err(format!("journal entry {number} was written after entry {}", self.written));
        }
        self.written = number;
        self.ledger.apply(entry).map_err(|error| error.to_string())?;
        match entry {
            Entry::Committed(commit) => self.read(std::slice::from_ref(commit)),
            _ => Ok(()),
        }
    }

    /// Reads checkpoints; the journal must hold what was written into it.
    fn read(&self, commits: &[Commit]) -> Result<(), String> {
        let read = async {
            let reader =
                Reader::open(self.depot.inside(), self.run.clone()).await.map_err(|error| error.to_string())?;
            if reader.ledger() != &self.ledger {
                return Err("the journal no longer says what was written into it".to_owned());
            }
            for commit in commits {
                reader.load(commit).await.map_err(|error| format!("{} is committed, but {error}", commit.prefix))?;
            }
            Ok(())
        };
        read.now_or_never().unwrap_or_else(|| Err("the inside of the store did not answer at once".to_owned()))
    }
}

impl Invariant for CheckpointsOnlyGrow {
    fn name(&self) -> &'static str {
        "checkpoints_only_grow"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Written { number, entry, .. } => self.add(*number, entry),
            Fact::Ended { .. } => self.read(self.ledger.commits()),
            _ => Ok(()),
        }
    }
}
