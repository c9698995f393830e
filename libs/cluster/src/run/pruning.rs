//! Which checkpoints go, after a commit: those that no rule keeps, once others were read back whole.
//!
//! The journal says first that a checkpoint is none any more; then its objects are deleted. A coordinator that dies in
//! between leaves objects that nobody takes for a checkpoint, and the next one deletes them.

use std::collections::BTreeMap;

use super::Run;
use crate::{
    command::{Command, Notice},
    event::Condition,
    ledger::{Entry, retention::Next},
};

/// What is known about checkpoints, and what is being done about them.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Checkpoints that were read back, and whether they are whole.
    known: BTreeMap<String, bool>,
    /// One is being read, or `Dropped` written.
    is_busy: bool,
}

impl Run {
    /// Drops what is surplus, unless something must be read back first.
    pub(super) fn prune(&mut self) {
        let Some(retention) = self.policy.retention else { return };
        if self.pruning.is_busy || self.phase.is_closing() {
            return;
        }
        let command = match retention.next(&self.ledger, &self.pruning.known) {
            Next::Nothing => return,
            Next::ReadBack(commit) => Command::Verify(commit),
            Next::Drop(checkpoints) => Command::Record(Entry::Dropped { checkpoints }),
        };
        self.pruning.is_busy = true;
        self.out.push(command);
    }

    pub(super) fn verified(&mut self, prefix: String, found: Condition) {
        self.pruning.is_busy = false;
        match found {
            Condition::Whole => drop(self.pruning.known.insert(prefix, true)),
            Condition::Damaged(what) => {
                self.pruning.known.insert(prefix.clone(), false);
                self.tell(Notice::Warning(format!(
                    "the checkpoint {prefix} is damaged: {what}; others are kept for it"
                )));
            }
            // The next commit asks again.
            Condition::Unknown(why) => {
                return self
                    .tell(Notice::Warning(format!("no checkpoint is dropped: can't read {prefix} back: {why}")));
            }
        }
        self.prune();
    }

    /// The journal says that they are none any more.
    pub(super) fn delete(&mut self, checkpoints: &[String]) {
        self.pruning.is_busy = false;
        self.pruning.known.retain(|prefix, _| !checkpoints.contains(prefix));
        self.tell(Notice::Dropped(checkpoints.to_vec()));
        self.out.push(Command::Delete(checkpoints.to_vec()));
    }
}
