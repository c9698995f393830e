//! Which checkpoints a run keeps.

use std::collections::{BTreeMap, BTreeSet};

use super::Ledger;
use crate::report::Commit;

/// How many checkpoints that were read back whole always stay, whatever else is asked for: the newest, and the one that is
/// gone back to if the newest turns out to be damaged.
pub const FALLBACKS: usize = 2;

/// What is kept; whatever no rule keeps is surplus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// This many of the newest; 1 at least.
    pub last: u32,
    /// The first at or after each multiple of so many steps, if there is a number.
    pub every_steps: Option<u64>,
    /// This many of those that were evaluated best, by top-1.
    pub best: u32,
}

/// A step of thinning out a run's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// All stay.
    Nothing,
    /// This one must be read back before anything goes.
    ReadBack(Commit),
    /// These may go, by their prefixes.
    Drop(Vec<String>),
}

impl Retention {
    /// The checkpoints that no rule keeps, oldest first.
    pub fn surplus<'l>(&self, ledger: &'l Ledger) -> Vec<&'l Commit> {
        let commits = ledger.commits();
        let mut kept: BTreeSet<usize> = (0..commits.len()).rev().take(self.last.max(1) as usize).collect();
        if let Some(every) = self.every_steps.filter(|every| *every > 0) {
            let mut due = every;
            for (at, commit) in commits.iter().enumerate().filter(|(_, commit)| commit.step >= every) {
                if commit.step >= due {
                    kept.insert(at);
                    due = (commit.step / every + 1) * every;
                }
            }
        }
        kept.extend(self.best_of(ledger));
        let surplus = commits.iter().enumerate().filter(|(at, _)| !kept.contains(at));
        surplus.map(|(_, commit)| commit).collect()
    }

    /// What is to be done next, with what is `known` so far: checkpoints that were read back, and whether they are whole.
    pub fn next(&self, ledger: &Ledger, known: &BTreeMap<String, bool>) -> Next {
        let mut surplus: Vec<String> = self.surplus(ledger).iter().map(|commit| commit.prefix.clone()).collect();
        if surplus.is_empty() {
            return Next::Nothing;
        }
        let mut whole = 0;
        for commit in ledger.commits().iter().rev() {
            match known.get(&commit.prefix) {
                None => return Next::ReadBack(commit.clone()),
                Some(false) => {}
                Some(true) => {
                    surplus.retain(|prefix| *prefix != commit.prefix);
                    whole += 1;
                }
            }
            if whole == FALLBACKS {
                return if surplus.is_empty() { Next::Nothing } else { Next::Drop(surplus) };
            }
        }
        Next::Nothing
    }

    fn best_of(&self, ledger: &Ledger) -> impl Iterator<Item = usize> {
        let scored = ledger.commits().iter().enumerate();
        let mut scored: Vec<(f32, usize)> =
            scored.filter_map(|(at, commit)| Some((ledger.score(commit.step)?.top1, at))).collect();
        // Of equals the newer.
        scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
        scored.into_iter().take(self.best as usize).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::GenerationNumber, ledger::Entry};

    /// A run with checkpoints after these steps, and what some of them scored.
    fn ledger(steps: &[u64], scores: &[(u64, f32)]) -> Ledger {
        let created = Entry::Created {
            run: "demo".parse().expect("a good name"),
            recipe: String::new(),
            recipe_digest: String::new(),
        };
        let committed = |step: &u64| {
            Entry::Committed(Commit {
                step: *step,
                generation: GenerationNumber(1),
                prefix: format!("c/{step}"),
                manifest_digest: String::new(),
            })
        };
        let scored = |(step, top1): &(u64, f32)| Entry::Evaluated { step: *step, top1: *top1, loss: 1.0 };
        let entries: Vec<Entry> =
            std::iter::once(created).chain(steps.iter().map(committed)).chain(scores.iter().map(scored)).collect();
        Ledger::replay(&entries).expect("consistent")
    }

    fn surplus(retention: Retention, ledger: &Ledger) -> Vec<u64> {
        retention.surplus(ledger).iter().map(|commit| commit.step).collect()
    }

    const LAST_TWO: Retention = Retention { last: 2, every_steps: None, best: 0 };

    #[test]
    fn the_last_stay() {
        let ledger = ledger(&[10, 20, 30, 40], &[]);
        assert_eq!(surplus(LAST_TWO, &ledger), [10, 20]);
        assert_eq!(surplus(Retention { last: 9, ..LAST_TWO }, &ledger), [0_u64; 0]);
        assert_eq!(surplus(Retention { last: 0, ..LAST_TWO }, &ledger), [10, 20, 30], "the newest always stays");
    }

    #[test]
    fn the_first_at_or_after_each_multiple_stays() {
        let retention = Retention { last: 1, every_steps: Some(100), best: 0 };
        let ledger = ledger(&[50, 99, 104, 150, 200, 290, 505, 510, 520], &[]);
        assert_eq!(surplus(retention, &ledger), [50, 99, 150, 290, 510]);
    }

    #[test]
    fn what_is_kept_is_kept_again_when_the_rest_is_gone() {
        let retention = Retention { last: 1, every_steps: Some(100), best: 1 };
        let scores = [(99, 0.5), (104, 0.4)];
        assert_eq!(
            surplus(retention, &ledger(&[50, 99, 104, 150, 200, 290, 505, 510, 520], &scores)),
            [50, 150, 290, 510]
        );
        assert_eq!(surplus(retention, &ledger(&[99, 104, 200, 505, 520], &scores)), [0_u64; 0]);
    }

    #[test]
    fn the_best_stay_and_of_equals_the_newer() {
        let retention = Retention { last: 1, every_steps: None, best: 2 };
        let ledger = ledger(&[10, 20, 30, 40, 50], &[(10, 0.9), (20, 0.5), (30, 0.5), (40, 0.1), (45, 1.0)]);
        assert_eq!(surplus(retention, &ledger), [20, 40]);
    }
}
