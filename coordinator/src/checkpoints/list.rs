//! `checkpoints list`.

use std::fmt;

use checkpoint::prune::{self, Held};
use runtime::exit::{Code, WithCode};
use serde::Serialize;

use super::{Opened, count};

/// Every checkpoint of a run, and what else lies in its folder.
#[derive(Debug, Serialize)]
pub(super) struct List {
    run: String,
    store: String,
    checkpoints: Vec<Line>,
    /// Folders that no commit names: an upload that did not come to its end, or has not yet.
    unfinished: Vec<Folder>,
    /// Folders of dropped checkpoints that are not deleted yet.
    remains: Vec<Folder>,
}

#[derive(Debug, Serialize)]
struct Line {
    step: u64,
    generation: u64,
    /// Share classified correctly, 0 to 1, if that state was evaluated.
    top1: Option<f32>,
    #[serde(flatten)]
    folder: Folder,
}

#[derive(Debug, Serialize)]
struct Folder {
    prefix: String,
    objects: u64,
    bytes: u64,
}

impl Folder {
    fn new(prefix: String, Held { objects, bytes }: Held) -> Self {
        Self { prefix, objects, bytes }
    }
}

pub(super) async fn list(opened: &Opened) -> anyhow::Result<List> {
    let ledger = opened.reader.ledger();
    let mut folders = prune::folders(&opened.place, &opened.asked.run).await.code(Code::ComeBack)?;
    let line = |commit: &cluster::report::Commit| Line {
        step: commit.step,
        generation: commit.generation.0,
        top1: ledger.score(commit.step).map(|score| score.top1),
        folder: Folder::new(commit.prefix.clone(), folders.remove(&commit.prefix).unwrap_or_default()),
    };
    let checkpoints = ledger.commits().iter().map(line).collect();
    let (remains, unfinished): (Vec<_>, Vec<_>) = folders
        .into_iter()
        .map(|(prefix, held)| Folder::new(prefix, held))
        .partition(|folder| ledger.dropped().contains(&folder.prefix));
    Ok(List { run: opened.asked.run.to_string(), store: opened.store.url.clone(), checkpoints, unfinished, remains })
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.checkpoints.iter().map(|line| line.folder.bytes).sum();
        let n = count(self.checkpoints.len() as u64, "checkpoint");
        writeln!(f, "run `{}` in {}: {n}, {bytes} bytes", self.run, self.store)?;
        if !self.checkpoints.is_empty() {
            writeln!(f, "{:>10}  generation   top-1  {:>14}  folder", "step", "bytes")?;
        }
        for Line { step, generation, top1, folder } in &self.checkpoints {
            let top1 = top1.map_or_else(|| "-".to_owned(), |top1| format!("{:.1} %", top1 * 100.0));
            writeln!(f, "{step:>10}  {generation:>10}  {top1:>6}  {:>14}  {}", folder.bytes, folder.prefix)?;
        }
        for (what, folders) in [("no commit names", &self.unfinished), ("dropped, not deleted yet:", &self.remains)] {
            for Folder { prefix, objects, bytes } in folders {
                writeln!(f, "{what} {prefix} ({}, {bytes} bytes)", count(*objects, "object"))?;
            }
        }
        Ok(())
    }
}
