//! `checkpoints prune`.

use std::{collections::BTreeMap, fmt};

use anyhow::anyhow;
use checkpoint::{
    Journal, prune as objects,
    reader::{ReadError, inspect},
};
use cluster::ledger::{Entry, Ledger, retention::Next};
use runtime::{
    exit::{Code, WithCode},
    store::StoreError,
};
use serde::Serialize;

use super::{Opened, coded, count};
use crate::args::Keep;

/// What goes, or would.
#[derive(Debug, Serialize)]
pub(super) struct Pruned {
    /// Prefixes of the checkpoints that no rule keeps.
    checkpoints: Vec<String>,
    /// Damaged objects that were come across.
    damages: Vec<String>,
    is_deleted: bool,
    /// Objects deleted, remains of earlier ones included.
    objects: u64,
}

pub(super) async fn prune(opened: &Opened, keep: &Keep, delete: bool) -> anyhow::Result<Pruned> {
    if delete {
        // Two who think that the run is theirs must not both write its journal.
        opened.store.probe().await.map_err(refuse)?;
    }
    let (mut journal, entries) = Journal::<Entry>::open(opened.place.clone(), opened.asked.run.clone())
        .await
        .map_err(|error| coded(ReadError::Journal(error)))?;
    let mut ledger = Ledger::replay(&entries)?;
    let (checkpoints, damages) = surplus(opened, keep, &ledger).await?;
    let mut objects = 0;
    if delete {
        if !checkpoints.is_empty() {
            let entry = Entry::Dropped { checkpoints: checkpoints.clone() };
            journal.append(&entry).await.map_err(|error| coded(ReadError::Journal(error)))?;
            ledger.apply(&entry)?;
        }
        objects = objects::sweep(&opened.place, &opened.asked.run, ledger.dropped()).await.code(Code::ComeBack)?;
    }
    Ok(Pruned { checkpoints, damages, is_deleted: delete, objects })
}

async fn surplus(opened: &Opened, keep: &Keep, ledger: &Ledger) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let Some(retention) = keep.retention() else {
        return Err(anyhow!(
            "nothing says what is to stay: give --keep-last K, with --keep-every or --keep-best if you like"
        ))
        .code(Code::Misconfigured);
    };
    let (mut known, mut damages) = (BTreeMap::new(), Vec::new());
    loop {
        match retention.next(ledger, &known) {
            Next::Nothing => return Ok((Vec::new(), damages)),
            Next::Drop(checkpoints) => return Ok((checkpoints, damages)),
            Next::ReadBack(commit) => {
                let found = inspect(&opened.place, &commit).await.map_err(coded)?;
                known.insert(commit.prefix, found.is_empty());
                damages.extend(found.iter().map(ToString::to_string));
            }
        }
    }
}

fn refuse(error: StoreError) -> anyhow::Error {
    let code = match &error {
        StoreError::NoConditionalPut { .. } | StoreError::RacyConditionalPut { .. } => Code::Misconfigured,
        _ => Code::ComeBack,
    };
    Err::<(), _>(error).code(code).expect_err("it is one")
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for damage in &self.damages {
            writeln!(f, "damaged: {damage}")?;
        }
        let word = if self.is_deleted { "dropped" } else { "would drop" };
        for prefix in &self.checkpoints {
            writeln!(f, "{word} {prefix}")?;
        }
        if self.checkpoints.is_empty() {
            writeln!(f, "no checkpoint is surplus: all stay")?;
        }
        match (self.is_deleted, self.checkpoints.is_empty()) {
            (true, _) => writeln!(f, "{} deleted", count(self.objects, "object")),
            (false, false) => writeln!(f, "nothing was changed; with --delete they go"),
            (false, true) => Ok(()),
        }
    }
}
