//! `checkpoints verify`.

use std::fmt;

use checkpoint::reader::inspect;
use serde::Serialize;

use super::{Opened, coded};

/// What reading checkpoints back has shown, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    run: String,
    checkpoints: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    step: u64,
    prefix: String,
    is_whole: bool,
    /// Each damaged object, and what is wrong with it.
    damages: Vec<Damaged>,
}

#[derive(Debug, Serialize)]
struct Damaged {
    object: String,
    difference: String,
}

pub(super) async fn verify(opened: &Opened, step: Option<u64>) -> anyhow::Result<Verified> {
    let commits = match step {
        Some(step) => vec![opened.reader.commit_of(step).map_err(coded)?],
        None => opened.reader.ledger().commits().iter().collect(),
    };
    let mut checkpoints = Vec::new();
    for commit in commits {
        let damages = inspect(&opened.place, commit).await.map_err(coded)?;
        let damages: Vec<Damaged> = damages
            .into_iter()
            .map(|damage| Damaged { object: damage.path, difference: damage.difference.to_string() })
            .collect();
        let (step, prefix) = (commit.step, commit.prefix.clone());
        checkpoints.push(Line { step, prefix, is_whole: damages.is_empty(), damages });
    }
    Ok(Verified { run: opened.asked.run.to_string(), checkpoints })
}

impl Verified {
    pub(super) fn is_whole(&self) -> bool {
        self.checkpoints.iter().all(|line| line.is_whole)
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.checkpoints.is_empty() {
            writeln!(f, "the run `{}` has no checkpoint yet", self.run)?;
        }
        for Line { step, prefix, is_whole, damages } in &self.checkpoints {
            let word = if *is_whole { "whole" } else { "damaged" };
            writeln!(f, "step {step}: {word} ({prefix})")?;
            for Damaged { object, difference } in damages {
                writeln!(f, "  {object} {difference}")?;
            }
        }
        Ok(())
    }
}
