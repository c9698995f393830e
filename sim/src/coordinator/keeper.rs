//! The run record, through the real journal: taken over at the start, then written entry by entry.

use std::{rc::Rc, time::Duration};

use checkpoint::{Journal, journal::JournalError};
use cluster::{
    event::{Event, RecordFailure},
    ledger::{Entry, Ledger},
    recipe::Recipe,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::port::RunMsg;
use crate::{process::Process, scenario::Bug, world::World};

/// The run record, taken over.
pub struct Prepared {
    pub(super) journal: Journal<Entry>,
    pub(super) ledger: Ledger,
    pub(super) recipe: Recipe,
}

/// Opens the run record and takes the run over, as `coordinator/src/prepare.rs` does. An exit code if there is nothing to
/// do, or it can't be done.
pub async fn prepare(world: &Rc<World>, process: &Process) -> Result<Prepared, u8> {
    let place = world.depot.client(process.number, world.scenario.has(Bug::BlindPut));
    let run = world.scenario.run();
    let (journal, entries) = Journal::<Entry>::open(place, run.clone()).await.map_err(|_| 1)?;
    let ledger = Ledger::replay(&entries).map_err(|_| 1)?;
    if ledger.finished().is_some() {
        return Err(0);
    }
    let recipe = world.scenario.recipe.clone();
    let mut prepared = Prepared { journal, ledger, recipe };
    if prepared.ledger.recipe().is_none() {
        let (recipe, recipe_digest) = (prepared.recipe.text().to_owned(), prepared.recipe.digest().to_owned());
        prepared.record(world, Entry::Created { run, recipe, recipe_digest }).await?;
    }
    prepared.record(world, Entry::Opened { coordinator: format!("p{}", process.number) }).await?;
    Ok(prepared)
}

impl Prepared {
    async fn record(&mut self, world: &World, entry: Entry) -> Result<(), u8> {
        append(&mut self.journal, &entry, world.scenario.limits.patience).await.map_err(|_| 75)?;
        self.ledger.apply(&entry).map_err(|_| 1)
    }
}

/// Writes one entry after the other and says what came of each.
pub async fn keep(
    mut journal: Journal<Entry>,
    mut entries: mpsc::Receiver<Entry>,
    (run, patience): (mpsc::Sender<RunMsg>, Duration),
) {
    while let Some(entry) = entries.recv().await {
        let event = match append(&mut journal, &entry, patience).await {
            Ok(()) => Event::Recorded(entry),
            Err(JournalError::Fenced { .. }) => Event::RecordFailed(RecordFailure::Fenced),
            Err(error) => Event::RecordFailed(RecordFailure::Store(error.to_string())),
        };
        // Without a run there is nobody left to tell.
        let _ = run.try_send(RunMsg::Happened(event));
    }
}

/// As `coordinator/src/actors/keeper.rs`: a store that fails is tried again until its budget is spent.
async fn append(journal: &mut Journal<Entry>, entry: &Entry, budget: Duration) -> Result<(), JournalError> {
    let (start, mut pause) = (Instant::now(), budget / 50);
    loop {
        let error = match journal.append(entry).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !matches!(error, JournalError::Store { .. }) || start.elapsed() + pause > budget {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(budget / 5);
    }
}
