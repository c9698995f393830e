//! What a batch holds depends on the ask alone (I2): however many loaders share a run, whatever they remember, though
//! their store fails now and then, and wherever the run goes on.

use std::path::Path;
use std::sync::Arc;

use dataloader::actors::fetch::DiskSpace;
use futures::future::join_all;
use proto::loader::{Batch, Split};

use crate::footage::File::{self, Video, WebPage};
use crate::footage::data_set;
use crate::run::recipe;
use crate::stages::{BARE, Bench, Memory, opened};
use crate::store::Watched;

/// Clips of a step.
const BATCH: u32 = 5;
/// An epoch is 14 clips, so that batches straddle epochs.
const CLIPS: usize = 14;
/// To the end of the second epoch.
const STEPS: u64 = 6;

/// Decoded frames; files in memory and on disks; nothing but what lies ahead.
fn memories(folder: &Path) -> [Memory; 3] {
    let disk = Some(DiskSpace { folder: folder.to_owned(), bytes: 400 << 10 });
    [
        Memory { file_bytes: 1 << 20, frame_bytes: 1 << 30, ahead_bytes: 1 << 20, disk: None },
        Memory { file_bytes: 100 << 10, frame_bytes: 0, ahead_bytes: 0, disk },
        Memory { ahead_bytes: 200 << 10, ..BARE },
    ]
}

/// The steps from `first` on, dealt to `loaders` new loaders in turn.
async fn steps((name, read): (&str, &str), (loaders, memory): (usize, Memory), first: u64) -> Vec<Batch> {
    let recipe = format!("{}\nread = {read:?}", recipe());
    let mut benches = Vec::new();
    for loader in 0..loaders {
        let mut memory = memory.clone();
        if let Some(disk) = &mut memory.disk {
            disk.folder.push(loader.to_string());
        }
        // One in twenty fails.
        let set = opened(&recipe, &format!("memory://{name}"), |inner| Arc::new(Watched::failing(inner, 20))).await;
        benches.push(Bench::start(Arc::new(set), 1, memory).await);
    }
    let ask = |step: u64| benches[step as usize % loaders].batch(Split::Train, step * u64::from(BATCH), BATCH);
    let batches = join_all((first..STEPS).map(ask)).await;
    join_all(benches.into_iter().map(Bench::stop)).await;
    batches
}

async fn all_agree(name: &str, read: &str) {
    let files: Vec<File> = (0..CLIPS).map(|n| if n == 6 { WebPage } else { Video(n) }).collect();
    data_set(&format!("memory://{name}/train"), &files).await;
    data_set(&format!("memory://{name}/val"), &files[..1]).await;
    let expected = steps((name, read), (1, BARE), 0).await;
    assert_eq!(expected.iter().map(|batch| batch.replaced.len()).sum::<usize>(), 2, "the broken clip, each epoch");
    let folder = tempfile::tempdir().expect("temporary folder");
    for loaders in [1, 2, 5] {
        for memory in memories(folder.path()) {
            for first in 0..STEPS {
                let found = steps((name, read), (loaders, memory.clone()), first).await;
                assert!(found == expected[first as usize..], "{loaders} loaders, {memory:?}, from step {first}");
            }
        }
    }
}

#[tokio::test]
async fn any_number_of_loaders_agree_from_any_step_on() {
    all_agree("agree", "whole").await;
}

#[tokio::test]
async fn so_they_do_where_groups_are_read() {
    all_agree("agree-groups", "groups").await;
}
