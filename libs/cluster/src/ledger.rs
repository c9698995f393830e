//! The run record: what is journalled before anybody acts on it, and what replaying it yields.
//!
//! The journal is a run's only durable state (with the checkpoints that it names). A cold start and a resume are one
//! path: replay, then go on.

pub mod retention;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    ids::{GenerationNumber, Member, RunName},
    report::{Commit, DataSet},
};

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The run exists, with this recipe. The first entry; as long as there is no checkpoint it may come again, and
    /// then the run starts over with another recipe.
    Created {
        /// The run.
        run: RunName,
        /// The recipe's canonical text.
        recipe: String,
        /// Its digest.
        recipe_digest: String,
    },
    /// A coordinator has taken the run over; whoever had it before is fenced from here on.
    Opened {
        /// That coordinator's process, a uuid.
        coordinator: String,
    },
    /// The data is known, so the plan is fixed.
    Planned {
        /// The data.
        data_set: DataSet,
        /// Steps of the whole run.
        total_steps: u64,
    },
    /// A set of workers was agreed on. Nobody is told before this is written.
    Generation {
        /// Its number.
        number: GenerationNumber,
        /// The workers by rank.
        workers: Vec<Member>,
        /// Prefix of the checkpoint that they start from, if it is one.
        restore: Option<String>,
        /// The survivor whose state they take, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Member>,
    },
    /// A checkpoint is real.
    Committed(Commit),
    /// The state after so many steps was evaluated.
    Evaluated {
        /// Steps applied.
        step: u64,
        /// Share classified correctly, 0 to 1.
        top1: f32,
        /// Mean loss.
        loss: f32,
    },
    /// These checkpoints are none any more; nothing of them is deleted before this is written.
    Dropped {
        /// Their prefixes.
        checkpoints: Vec<String>,
    },
    /// All steps are done. Nothing but `dropped` comes after it.
    Finished {
        /// Steps applied.
        step: u64,
    },
}

/// What the journal says, summed up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    recipe: Option<(String, String)>,
    plan: Option<(DataSet, u64)>,
    generation: GenerationNumber,
    commits: Vec<Commit>,
    dropped: BTreeSet<String>,
    scores: BTreeMap<u64, Score>,
    finished: Option<u64>,
}

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Share classified correctly, 0 to 1.
    pub top1: f32,
    /// Mean loss.
    pub loss: f32,
}

/// An entry that can't follow the ones before it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("the run record is inconsistent: {0}")]
pub struct LedgerError(String);

impl Ledger {
    /// Replays a journal from its beginning.
    pub fn replay<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for entry in entries {
            ledger.apply(entry)?;
        }
        Ok(ledger)
    }

    /// Applies one entry; refuses what would break an invariant of the run.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        if self.recipe.is_none() && !matches!(entry, Entry::Created { .. }) {
            return Err(LedgerError("`created` must be the first entry".to_owned()));
        }
        match entry {
            Entry::Created { recipe, recipe_digest, .. } => self.create(recipe, recipe_digest)?,
            Entry::Opened { .. } => {}
            Entry::Planned { data_set, total_steps } => self.plan_once(data_set, *total_steps)?,
            Entry::Generation { number, .. } => self.raise_generation(*number)?,
            Entry::Committed(commit) => self.add_commit(commit)?,
            Entry::Evaluated { step, top1, loss } => {
                self.scores.insert(*step, Score { top1: *top1, loss: *loss });
            }
            Entry::Dropped { checkpoints } => self.drop_commits(checkpoints)?,
            Entry::Finished { step } => self.finished = Some(*step),
        }
        Ok(())
    }

    fn create(&mut self, recipe: &str, digest: &str) -> Result<(), LedgerError> {
        if !self.commits.is_empty() {
            return Err(LedgerError("a second `created` after a commit".to_owned()));
        }
        self.recipe = Some((recipe.to_owned(), digest.to_owned()));
        self.plan = None;
        Ok(())
    }

    fn plan_once(&mut self, data_set: &DataSet, total_steps: u64) -> Result<(), LedgerError> {
        match self.plan.replace((data_set.clone(), total_steps)) {
            None => Ok(()),
            Some(_) => Err(LedgerError("a second `planned`".to_owned())),
        }
    }

    fn raise_generation(&mut self, number: GenerationNumber) -> Result<(), LedgerError> {
        if number <= self.generation {
            return Err(LedgerError(format!("generation {number} after generation {}", self.generation)));
        }
        self.generation = number;
        Ok(())
    }

    fn add_commit(&mut self, commit: &Commit) -> Result<(), LedgerError> {
        match self.commits.last() {
            // A later generation may be behind: it started from an older checkpoint, because the last one was damaged.
            Some(last) if (commit.generation, commit.step) <= (last.generation, last.step) => {
                let (new, old) = ((commit.step, commit.generation), (last.step, last.generation));
                Err(LedgerError(format!(
                    "a commit of step {} by generation {} after one of step {} by generation {}",
                    new.0, new.1, old.0, old.1
                )))
            }
            _ => {
                self.commits.push(commit.clone());
                Ok(())
            }
        }
    }

    fn drop_commits(&mut self, prefixes: &[String]) -> Result<(), LedgerError> {
        for prefix in prefixes {
            let found = self.commits.iter().position(|commit| commit.prefix == *prefix);
            match found {
                Some(at) if at + 1 < self.commits.len() => drop(self.commits.remove(at)),
                Some(_) => return Err(LedgerError(format!("{prefix} is dropped, the newest checkpoint"))),
                None => return Err(LedgerError(format!("{prefix} is dropped, but it is no checkpoint"))),
            }
            self.dropped.insert(prefix.clone());
        }
        Ok(())
    }

    /// The recipe's text and digest, once the run is created.
    pub fn recipe(&self) -> Option<(&str, &str)> {
        self.recipe.as_ref().map(|(text, digest)| (text.as_str(), digest.as_str()))
    }

    /// The data, once planned.
    pub fn data_set(&self) -> Option<&DataSet> {
        self.plan.as_ref().map(|(data_set, _)| data_set)
    }

    /// Steps of the whole run, once planned.
    pub fn total_steps(&self) -> Option<u64> {
        self.plan.as_ref().map(|(_, steps)| *steps)
    }

    /// The number of the latest generation; 0 before the first.
    pub fn generation(&self) -> GenerationNumber {
        self.generation
    }

    /// Every committed checkpoint that was not dropped, oldest first.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// Prefixes of the checkpoints that were dropped; what is left of them may be deleted at any time. No name is used twice.
    pub fn dropped(&self) -> &BTreeSet<String> {
        &self.dropped
    }

    /// What the state after `step` steps scored, if it was evaluated.
    pub fn score(&self, step: u64) -> Option<Score> {
        self.scores.get(&step).copied()
    }

    /// The checkpoint to start from.
    pub fn last_commit(&self) -> Option<&Commit> {
        self.commits.last()
    }

    /// Steps that survive a loss of everything.
    pub fn committed_step(&self) -> u64 {
        self.last_commit().map_or(0, |commit| commit.step)
    }

    /// The number of steps at which the run was finished, if it is.
    pub fn finished(&self) -> Option<u64> {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Entry {
        Entry::Created {
            run: "demo".parse().expect("a good name"),
            recipe: "name = \"demo\"".to_owned(),
            recipe_digest: "d".to_owned(),
        }
    }

    fn generation(number: u64) -> Entry {
        Entry::Generation { number: GenerationNumber(number), workers: Vec::new(), restore: None, source: None }
    }

    fn committed(step: u64) -> Entry {
        Entry::Committed(Commit {
            step,
            generation: GenerationNumber(1),
            prefix: format!("runs/demo/checkpoints/{step:08}-g1"),
            manifest_digest: "m".to_owned(),
        })
    }

    fn refusal(entries: &[Entry]) -> String {
        Ledger::replay(entries).expect_err("inconsistent").to_string()
    }

    #[test]
    fn a_replay_knows_where_to_go_on() {
        let entries = [created(), generation(1), committed(50), committed(100), generation(2), committed(150)];
        let ledger = Ledger::replay(&entries).expect("consistent");
        assert_eq!((ledger.generation(), ledger.committed_step()), (GenerationNumber(2), 150));
        assert_eq!(ledger.commits().len(), 3);
        assert_eq!((ledger.finished(), ledger.recipe()), (None, Some(("name = \"demo\"", "d"))));
    }

    #[test]
    fn an_empty_journal_is_a_run_that_does_not_exist() {
        assert_eq!(Ledger::replay([]).expect("consistent").recipe(), None);
    }

    #[test]
    fn generations_and_commits_only_grow() {
        assert!(refusal(&[created(), generation(2), generation(2)]).contains("generation 2 after generation 2"));
        assert!(refusal(&[created(), committed(50), committed(50)]).contains("step 50 by generation 1 after one of"));
        assert!(refusal(&[created(), committed(50), committed(49)]).contains("step 49 by generation 1 after one of"));
    }

    #[test]
    fn a_later_generation_may_commit_behind_a_damaged_checkpoint() {
        let Entry::Committed(first) = committed(50) else { unreachable!("a commit") };
        let second = Commit { step: 42, generation: GenerationNumber(2), prefix: "42-g2".to_owned(), ..first };
        let ledger = Ledger::replay(&[created(), committed(50), Entry::Committed(second.clone())]).expect("consistent");
        assert_eq!(ledger.last_commit(), Some(&second));
    }

    fn dropped(steps: &[u64]) -> Entry {
        let prefix = |step: &u64| format!("runs/demo/checkpoints/{step:08}-g1");
        Entry::Dropped { checkpoints: steps.iter().map(prefix).collect() }
    }

    #[test]
    fn what_is_dropped_is_no_checkpoint_any_more() {
        let entries = [created(), committed(50), committed(100), committed(150), dropped(&[100])];
        let ledger = Ledger::replay(&entries).expect("consistent");
        assert_eq!(ledger.commits().iter().map(|commit| commit.step).collect::<Vec<_>>(), [50, 150]);
        assert!(ledger.dropped().iter().eq(["runs/demo/checkpoints/00000100-g1"]));
        for (steps, because) in
            [(100, "it is no checkpoint"), (150, "the newest checkpoint"), (7, "it is no checkpoint")]
        {
            let more: Vec<Entry> = entries.iter().cloned().chain([dropped(&[steps])]).collect();
            assert!(refusal(&more).contains(because), "{steps}");
        }
    }

    #[test]
    fn a_run_is_created_first() {
        assert!(refusal(&[generation(1)]).contains("`created` must be the first"));
    }

    #[test]
    fn a_run_can_start_over_with_another_recipe_until_it_has_a_checkpoint() {
        let data_set = DataSet { train_clips: 1, val_clips: 1, digest: "x".to_owned(), classes: Vec::new() };
        let planned = Entry::Planned { data_set, total_steps: 3 };
        let ledger = Ledger::replay(&[created(), planned, generation(1), created()]).expect("consistent");
        // Its generations go on: a worker of the first recipe must never be taken for one of the second.
        assert_eq!((ledger.total_steps(), ledger.generation()), (None, GenerationNumber(1)));
        assert!(refusal(&[created(), committed(50), created()]).contains("a second `created` after a commit"));
    }

    #[test]
    fn a_plan_is_made_once() {
        let data_set = DataSet { train_clips: 1, val_clips: 1, digest: "x".to_owned(), classes: Vec::new() };
        let planned = Entry::Planned { data_set, total_steps: 3 };
        assert_eq!(Ledger::replay(&[created(), planned.clone()]).expect("consistent").total_steps(), Some(3));
        assert!(refusal(&[created(), planned.clone(), planned]).contains("a second `planned`"));
    }
}
