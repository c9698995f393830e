//! One suite over every kind of store that is at hand, and the writer killed at each of its writes.

mod ends;
mod faulty;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cluster::ids::{GenerationNumber, RunName};
use cluster::ledger::Entry;
use cluster::report::Commit;
use faults::S3;
use futures::future::join_all;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::journal::JournalError;
use crate::manifest::Difference;
use crate::reader::ReadError;
use crate::writer::WriteError;
use crate::{Journal, Place, Reader, Snapshot, Stored, Writer, layout};
use faulty::Faulty;

/// A store with one run in it, and what a coordinator and a worker do to it.
struct Bench {
    place: Place,
    store: Arc<dyn ObjectStore>,
    journal: Journal<Entry>,
}

fn run() -> RunName {
    "demo".parse().expect("a good name")
}

fn snapshot(step: u64) -> Snapshot {
    let objects = [layout::MODEL, layout::OPTIMIZER, layout::RUN]
        .map(|name| (name.to_owned(), Bytes::from(format!("{name} after {step} steps"))));
    Snapshot { step, generation: GenerationNumber(1), parent: None, objects: BTreeMap::from(objects) }
}

impl Bench {
    async fn on(store: Arc<dyn ObjectStore>, root: &str) -> Self {
        let place = Place::new(Arc::clone(&store), Path::from(root));
        let (mut journal, entries) = Journal::open(place.clone(), run()).await.expect("opens");
        assert_eq!(entries, []);
        let created = Entry::Created { run: run(), recipe: String::new(), recipe_digest: String::new() };
        journal.append(&created).await.expect("the first entry");
        Self { place, store, journal }
    }

    async fn commit(&mut self, stored: Stored) {
        let Stored { step, generation, prefix, manifest_digest } = stored;
        let entry = Entry::Committed(Commit { step, generation, prefix, manifest_digest });
        self.journal.append(&entry).await.expect("commits");
    }

    async fn checkpoint(&mut self, step: u64) -> String {
        let stored = Writer::new(self.place.clone(), run()).put(&snapshot(step)).await.expect("stores");
        let prefix = stored.prefix.clone();
        self.commit(stored).await;
        prefix
    }

    async fn reader(&self) -> Reader {
        Reader::open(self.place.clone(), run()).await.expect("opens")
    }

    async fn flip(&self, path: &str, at: usize) {
        let path = self.place.path(path);
        let mut bytes = self.store.get(&path).await.expect("there").bytes().await.expect("reads").to_vec();
        bytes[at] ^= 1;
        self.store.put(&path, PutPayload::from(bytes)).await.expect("overwrites");
    }
}

/// Runs `test` on a memory store, on a local one, below a prefix, on S3 in this process, and on the server that
/// `VARED_TEST_S3` names (`cargo xtask stores` starts one).
async fn everywhere<F: AsyncFn(Bench)>(test: F) {
    let folder = tempfile::tempdir().expect("a folder");
    let local = LocalFileSystem::new_with_prefix(folder.path()).expect("opens");
    test(Bench::on(Arc::new(InMemory::new()), "").await).await;
    test(Bench::on(Arc::new(local), "").await).await;
    test(Bench::on(Arc::new(InMemory::new()), "team/vared").await).await;
    let server = S3::start().await.expect("starts");
    test(on_s3(server.address()).await).await;
    if let Ok(address) = std::env::var("VARED_TEST_S3") {
        test(on_s3(address.parse().expect("VARED_TEST_S3 is HOST:PORT")).await).await;
    }
}

async fn on_s3(address: SocketAddr) -> Bench {
    let url = format!("s3://bucket/{}", uuid::Uuid::new_v4());
    let store = runtime::store::open_with(&url, &S3::settings(address)).expect("opens");
    Bench::on(store.store, store.root.as_ref()).await
}

#[tokio::test]
async fn what_was_committed_is_loaded() {
    everywhere(async |mut bench| {
        bench.checkpoint(50).await;
        bench.checkpoint(100).await;
        let reader = bench.reader().await;
        let loaded = reader.latest().await.expect("whole");
        assert_eq!((loaded.commit.step, &loaded.objects), (100, &snapshot(100).objects));
        assert_eq!(reader.at_step(50).await.expect("whole").objects, snapshot(50).objects);
    })
    .await;
}

#[tokio::test]
async fn what_was_not_committed_is_no_checkpoint() {
    everywhere(async |mut bench| {
        bench.checkpoint(50).await;
        Writer::new(bench.place.clone(), run()).put(&snapshot(100)).await.expect("stores");
        assert_eq!(bench.reader().await.latest().await.expect("whole").commit.step, 50);
        let refused = bench.reader().await.at_step(100).await.expect_err("not committed").to_string();
        assert!(refused.contains("of step 100") && refused.contains("steps 50"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_found_and_named_and_the_parent_is_used() {
    let names = [layout::MODEL, layout::OPTIMIZER, layout::RUN, layout::MANIFEST];
    for name in names {
        everywhere(async |mut bench| {
            bench.checkpoint(50).await;
            let newest = layout::object(&bench.checkpoint(100).await, name);
            let length = bench.place.read(&newest).await.expect("there").len();
            for at in [0, length / 2, length - 1] {
                bench.flip(&newest, at).await;
                let loaded = bench.reader().await.latest().await.expect("the parent is whole");
                assert_eq!(loaded.commit.step, 50);
                assert_eq!(loaded.passed_over.iter().map(|d| d.path.as_str()).collect::<Vec<_>>(), [newest.as_str()]);
                bench.flip(&newest, at).await;
            }
            assert_eq!(bench.reader().await.latest().await.expect("whole again").commit.step, 100);
        })
        .await;
    }
}

#[tokio::test]
async fn averaged_weights_are_handed_on_where_there_are_some() {
    everywhere(async |mut bench| {
        bench.checkpoint(50).await;
        let of = async |bench: &Bench| {
            let loaded = bench.reader().await.latest().await.expect("whole");
            loaded.weights().expect("there").clone()
        };
        assert_eq!(of(&bench).await, snapshot(50).objects[layout::MODEL]);
        let mut averaged = snapshot(100);
        averaged.objects.insert(layout::AVERAGE.to_owned(), Bytes::from_static(b"the average"));
        let stored = Writer::new(bench.place.clone(), run()).put(&averaged).await.expect("stores");
        bench.commit(stored).await;
        assert_eq!(of(&bench).await, Bytes::from_static(b"the average"));
    })
    .await;
}

#[tokio::test]
async fn a_missing_and_a_truncated_object_are_told_apart() {
    everywhere(async |mut bench| {
        let prefix = bench.checkpoint(50).await;
        let model = layout::object(&prefix, layout::MODEL);
        let path = bench.place.path(&model);
        bench.store.put(&path, PutPayload::from_static(b"model")).await.expect("overwrites");
        let error = bench.reader().await.at_step(50).await.expect_err("damaged");
        assert!(matches!(&error, ReadError::Damaged(d) if d.path == model), "{error}");
        assert!(error.to_string().contains("has 5 bytes; 32 were written"), "{error}");
        bench.store.delete(&path).await.expect("deletes");
        let error = bench.reader().await.at_step(50).await.expect_err("damaged");
        assert!(matches!(error, ReadError::Damaged(d) if d.difference == Difference::Missing));
    })
    .await;
}

#[tokio::test]
async fn without_a_whole_checkpoint_every_damage_is_named() {
    everywhere(async |mut bench| {
        for step in [50, 100] {
            let prefix = bench.checkpoint(step).await;
            bench.flip(&layout::object(&prefix, layout::MODEL), 0).await;
        }
        let error = bench.reader().await.latest().await.expect_err("none is whole").to_string();
        assert!(error.contains("00000050-g1/model") && error.contains("00000100-g1/model"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_writer_killed_at_any_write_never_gives_a_wrong_load() {
    // Three objects, a manifest: the run's fifth write is the commit.
    for writes in 0..=4 {
        everywhere(async |mut bench| {
            bench.checkpoint(50).await;
            let dying = Place::new(Faulty::after(writes, Arc::clone(&bench.store)), bench.place.path(""));
            let outcome = Writer::new(dying, run()).put(&snapshot(100)).await;
            assert_eq!(outcome.is_ok(), writes == 4, "the fault must fire, and only before the last write");
            assert_eq!(bench.reader().await.latest().await.expect("whole").objects, snapshot(50).objects);
            // The next attempt of the same worker finds its own traces and completes them.
            let prefix = bench.checkpoint(100).await;
            assert_eq!(bench.reader().await.latest().await.expect("whole").commit.prefix, prefix);
        })
        .await;
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage() {
    let mut bench = Bench::on(Arc::new(InMemory::new()), "").await;
    bench.checkpoint(50).await;
    bench.checkpoint(100).await;
    // The journal's three entries are read, then the store goes away.
    let leaving = Place::new(Faulty::reads_after(3, Arc::clone(&bench.store)), Path::default());
    let reader = Reader::open(leaving, run()).await.expect("the journal is read");
    let error = reader.latest().await.expect_err("the store is away");
    assert!(matches!(error, ReadError::Get { .. }), "an older checkpoint must not be used: {error}");
}

#[tokio::test]
async fn a_checkpoint_is_never_overwritten() {
    everywhere(async |mut bench| {
        bench.checkpoint(50).await;
        let mut other = snapshot(50);
        other.objects.insert(layout::MODEL.to_owned(), Bytes::from_static(b"other weights"));
        let error = Writer::new(bench.place.clone(), run()).put(&other).await.expect_err("taken");
        assert!(matches!(error, WriteError::Taken { .. }), "{error}");
        assert_eq!(bench.reader().await.latest().await.expect("whole").objects, snapshot(50).objects);
    })
    .await;
}

#[tokio::test]
async fn runs_that_are_not_there_and_runs_without_checkpoints_are_told_apart() {
    everywhere(async |bench| {
        let error = Reader::open(bench.place.clone(), "typo".parse().expect("a good name")).await.expect_err("no run");
        assert!(error.to_string().contains("there is no run \"typo\""), "{error}");
        let error = bench.reader().await.latest().await.expect_err("none yet");
        assert!(error.to_string().contains("no committed checkpoint yet"), "{error}");
    })
    .await;
}

fn opened(by: &str) -> Entry {
    Entry::Opened { coordinator: by.to_owned() }
}

#[tokio::test]
async fn a_journal_comes_back_in_order() {
    everywhere(async |mut bench| {
        for by in ["a", "b", "c"] {
            bench.journal.append(&opened(by)).await.expect("appends");
        }
        let (mut journal, entries) = Journal::<Entry>::open(bench.place.clone(), run()).await.expect("opens");
        assert_eq!(entries[1..], [opened("a"), opened("b"), opened("c")]);
        assert_eq!(journal.append(&opened("d")).await.expect("appends"), 5);
    })
    .await;
}

#[tokio::test]
async fn of_two_writers_the_older_is_fenced() {
    everywhere(async |mut bench| {
        let (mut newer, _) = Journal::<Entry>::open(bench.place.clone(), run()).await.expect("opens");
        newer.append(&opened("newer")).await.expect("appends");
        let error = bench.journal.append(&opened("older")).await.expect_err("fenced");
        assert!(matches!(&error, JournalError::Fenced { path } if path.ends_with("00000002.json")), "{error}");
        let (_, entries) = Journal::<Entry>::open(bench.place.clone(), run()).await.expect("opens");
        assert_eq!(entries[1..], [opened("newer")]);
    })
    .await;
}

#[tokio::test]
async fn of_many_writers_at_once_one_owns_the_run() {
    everywhere(async |bench| {
        let open = || Journal::<Entry>::open(bench.place.clone(), run());
        let mut journals: Vec<_> =
            join_all((0..8).map(|_| open())).await.into_iter().map(|opened| opened.expect("opens").0).collect();
        let entry = opened("one of eight");
        let outcomes = join_all(journals.iter_mut().map(|journal| journal.append(&entry))).await;
        let fenced = outcomes.iter().filter(|outcome| matches!(outcome, Err(JournalError::Fenced { .. }))).count();
        assert_eq!((outcomes.iter().filter(|outcome| outcome.is_ok()).count(), fenced), (1, 7), "{outcomes:?}");
        assert_eq!(open().await.expect("opens").1.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_ours() {
    let bench = Bench::on(Arc::new(InMemory::new()), "").await;
    let lossy = Place::new(Faulty::repeats(Arc::clone(&bench.store)), Path::default());
    let (mut journal, _) = Journal::<Entry>::open(lossy, run()).await.expect("opens");
    assert_eq!(journal.append(&opened("a")).await.expect("ours"), 2);
    assert_eq!(journal.append(&opened("b")).await.expect("ours"), 3);
}

#[tokio::test]
async fn a_hole_and_a_torn_entry_are_named() {
    everywhere(async |mut bench| {
        bench.journal.append(&opened("a")).await.expect("appends");
        bench.journal.append(&opened("b")).await.expect("appends");
        let second = layout::journal_entry(&run(), 2);
        bench.store.put(&bench.place.path(&second), PutPayload::from_static(b"{\"num")).await.expect("overwrites");
        let error = Journal::<Entry>::open(bench.place.clone(), run()).await.expect_err("torn").to_string();
        assert!(error.contains(&second) && error.contains("can't be understood"), "{error}");
        bench.store.delete(&bench.place.path(&second)).await.expect("deletes");
        let error = Journal::<Entry>::open(bench.place.clone(), run()).await.expect_err("a hole").to_string();
        assert!(error.contains("has a hole") && error.contains(&second), "{error}");
    })
    .await;
}
