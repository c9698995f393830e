//! What was read before: from epoch to epoch and over a restart, and never other bytes than the store's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataloader::actors::fetch::DiskSpace;
use object_store::ObjectStore;
use proto::loader::{Batch, Split};

use crate::footage::{File, data_set};
use crate::run::recipe;
use crate::stages::{BARE, Bench, Memory, opened};
use crate::store::Watched;

const CLIPS: u32 = 12;

async fn packed(name: &str) -> String {
    let url = format!("memory://{name}");
    let files: Vec<File> = (0..CLIPS as usize).map(File::Video).collect();
    data_set(&format!("{url}/train"), &files).await;
    data_set(&format!("{url}/val"), &files[..1]).await;
    url
}

/// The first two epochs of a new loader, and the requests that each took.
async fn epochs((url, read): (&str, &str), memory: Memory) -> (Vec<Batch>, [u64; 2]) {
    let watched = Arc::new(Watched::new(runtime::store::open(url).expect("opens").store));
    let recipe = format!("{}\nread = {read:?}", recipe());
    let set = opened(&recipe, url, |_| Arc::clone(&watched) as Arc<dyn ObjectStore>).await;
    let bench = Bench::start(Arc::new(set), 1, memory).await;
    let first = bench.batch(Split::Train, 0, CLIPS).await;
    let requests = watched.counted().0;
    let second = bench.batch(Split::Train, CLIPS.into(), CLIPS).await;
    bench.stop().await;
    (vec![first, second], [requests, watched.counted().0 - requests])
}

fn on_disk(folder: &Path, bytes: u64) -> Memory {
    Memory { disk: Some(DiskSpace { folder: folder.to_owned(), bytes }), ..BARE }
}

fn files(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, mut found): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    found.retain(|path| !path.ends_with("lock"));
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found
}

#[tokio::test]
async fn what_fits_is_read_once_and_never_again_after_a_restart() {
    let url = packed("cached").await;
    let (expected, requests) = epochs((&url, "whole"), BARE).await;
    assert_eq!(requests, [12, 12]);
    let (found, requests) = epochs((&url, "whole"), Memory { file_bytes: 10 << 20, ..BARE }).await;
    assert!(found == expected && requests == [12, 0], "in memory: {requests:?}");
    let folder = tempfile::tempdir().expect("temporary folder");
    for expected_requests in [[12, 0], [0, 0]] {
        let (found, requests) = epochs((&url, "whole"), on_disk(folder.path(), 10 << 20)).await;
        assert!(found == expected && requests == expected_requests, "on a disk: {requests:?}");
    }
}

/// In every epoch as much comes from the cache as fits into it.
#[tokio::test]
async fn half_the_room_spares_about_half_of_the_requests() {
    let url = packed("half").await;
    let all: u64 = files_bytes();
    let (expected, _) = epochs((&url, "whole"), BARE).await;
    let folder = tempfile::tempdir().expect("temporary folder");
    for memory in [Memory { file_bytes: all / 2, ..BARE }, on_disk(folder.path(), all / 2)] {
        let (found, [_, second]) = epochs((&url, "whole"), memory).await;
        assert!(found == expected && (5..=7).contains(&second), "{second} of {CLIPS} are read again");
    }
    let kept: u64 = files(folder.path()).iter().map(|file| file.metadata().expect("is there").len()).sum();
    assert!(kept <= all / 2, "{kept} bytes on the disk");
}

fn files_bytes() -> u64 {
    (0..CLIPS as usize).map(|n| crate::footage::videos()[n % 6].len() as u64).sum()
}

#[tokio::test]
async fn damaged_files_are_found_and_read_again() {
    let url = packed("damage").await;
    for read in ["whole", "groups"] {
        let (expected, _) = epochs((&url, read), BARE).await;
        let folder = tempfile::tempdir().expect("temporary folder");
        epochs((&url, read), on_disk(folder.path(), 10 << 20)).await;
        let kept = files(folder.path());
        for (n, path) in kept.iter().enumerate() {
            let mut bytes = std::fs::read(path).expect("is there");
            let middle = bytes.len() / 2;
            match n % 3 {
                0 => bytes[middle] ^= 1,
                1 => bytes.truncate(middle),
                _ => bytes.clear(),
            }
            std::fs::write(path, bytes).expect("writes");
        }
        let (found, requests) = epochs((&url, read), on_disk(folder.path(), 10 << 20)).await;
        assert!(found == expected, "{read}: no damage is shown");
        // How many groups come in one request depends on what was read ahead together.
        assert!(requests[0] >= u64::from(CLIPS), "{read}: every clip is read again: {requests:?}");
        let (found, requests) = epochs((&url, read), on_disk(folder.path(), 10 << 20)).await;
        assert!(found == expected && requests == [0, 0], "{read}: and kept: {requests:?}");
    }
}

#[tokio::test]
async fn a_folder_that_can_not_be_used_is_done_without() {
    let url = packed("no-folder").await;
    let (expected, _) = epochs((&url, "whole"), BARE).await;
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    let (found, requests) = epochs((&url, "whole"), on_disk(file.path(), 10 << 20)).await;
    assert!(found == expected && requests == [12, 12], "{requests:?}");
}
