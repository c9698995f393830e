//! `coordinator checkpoints …`: what a run has left in its store, whether it is whole, and what of it may go.

mod list;
mod prune;
mod verify;

use std::{fmt::Display, sync::Arc};

use checkpoint::{Place, Reader, journal::JournalError, reader::ReadError};
use runtime::{
    exit::{Code, WithCode},
    store::{self, Store},
    telemetry,
};
use serde::Serialize;

use crate::args::{self, Checkpoints};

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit code.
    pub code: Code,
    /// What is printed.
    pub text: String,
}

/// Does what is asked, and prints the answer.
pub async fn run(command: Checkpoints) -> anyhow::Result<Code> {
    let Answer { code, text } = answer(command).await?;
    telemetry::print(text.trim_end());
    Ok(code)
}

/// Does what is asked.
pub async fn answer(command: Checkpoints) -> anyhow::Result<Answer> {
    match command {
        Checkpoints::List(place) => {
            let opened = Opened::new(&place).await?;
            opened.answer(&list::list(&opened).await?, Code::Done)
        }
        Checkpoints::Verify { place, step } => {
            let opened = Opened::new(&place).await?;
            let report = verify::verify(&opened, step).await?;
            let code = if report.is_whole() { Code::Done } else { Code::Failed };
            opened.answer(&report, code)
        }
        Checkpoints::Prune { place, keep, delete, dry_run: _ } => {
            let opened = Opened::new(&place).await?;
            opened.answer(&prune::prune(&opened, &keep, delete).await?, Code::Done)
        }
    }
}

/// A run's record and the store that it is in.
struct Opened {
    asked: args::Place,
    store: Store,
    place: Place,
    reader: Reader,
}

impl Opened {
    async fn new(asked: &args::Place) -> anyhow::Result<Self> {
        let store = store::open_existing(&asked.store).code(Code::Misconfigured)?;
        let place = Place::new(Arc::clone(&store.store), store.root.clone());
        let reader = Reader::open(place.clone(), asked.run.clone()).await.map_err(coded)?;
        Ok(Self { asked: asked.clone(), store, place, reader })
    }

    fn answer(&self, report: &(impl Display + Serialize), code: Code) -> anyhow::Result<Answer> {
        let text = if self.asked.json { serde_json::to_string_pretty(report)? } else { report.to_string() };
        Ok(Answer { code, text })
    }
}

/// A store that does not answer may do so later; a run that is not there will not.
fn coded(error: ReadError) -> anyhow::Error {
    let code = match &error {
        ReadError::NoRun { .. } | ReadError::NotCommitted { .. } | ReadError::NoCheckpoint { .. } => {
            Code::Misconfigured
        }
        ReadError::Journal(JournalError::Store { .. } | JournalError::Fenced { .. }) | ReadError::Get { .. } => {
            Code::ComeBack
        }
        _ => Code::Failed,
    };
    Err::<(), _>(error).code(code).expect_err("it is one")
}

/// `1 object`, `2 objects`.
fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
