//! The end of a checkpoint: dropped in the journal, then deleted, wherever whoever does it dies; and every byte looked at.

use std::collections::BTreeSet;

use super::*;
use crate::prune::{self, PruneError};
use crate::reader::inspect;

impl Bench {
    async fn drop_checkpoints(&mut self, prefixes: &[String]) {
        let entry = Entry::Dropped { checkpoints: prefixes.to_vec() };
        self.journal.append(&entry).await.expect("writes");
    }

    async fn folders(&self) -> Vec<String> {
        prune::folders(&self.place, &run()).await.expect("lists").into_keys().collect()
    }

    /// What the next coordinator does first.
    async fn sweep(&self) -> u64 {
        let dropped = self.reader().await.ledger().dropped().clone();
        prune::sweep(&self.place, &run(), &dropped).await.expect("sweeps")
    }
}

#[tokio::test]
async fn what_is_dropped_is_deleted_and_nothing_else() {
    everywhere(async |mut bench| {
        let (old, new) = (bench.checkpoint(50).await, bench.checkpoint(100).await);
        let other = "runs/demo-2/checkpoints/00000050-g1";
        let foreign = bench.place.path(&format!("{other}/model.safetensors"));
        bench.store.put(&foreign, PutPayload::from_static(b"another run's")).await.expect("puts");
        bench.drop_checkpoints(std::slice::from_ref(&old)).await;
        assert_eq!(prune::delete(&bench.place, &run(), &old).await.expect("deletes"), 4);
        assert_eq!(prune::delete(&bench.place, &run(), &old).await.expect("again"), 0);
        assert_eq!(bench.folders().await, [new]);
        assert_eq!(bench.reader().await.latest().await.expect("whole").commit.step, 100);
        for prefix in [
            other,
            "runs/demo/checkpoints",
            "runs/demo/checkpoints/",
            "runs/demo/checkpoints/..",
            "runs/demo/journal",
            "",
        ] {
            let refused = prune::delete(&bench.place, &run(), prefix).await;
            assert!(matches!(refused, Err(PruneError::Foreign { .. })), "{prefix}: {refused:?}");
        }
        assert!(bench.store.head(&foreign).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_killed_at_any_write_of_a_checkpoints_end_leaves_a_run_that_loads() {
    // The entry, then four objects.
    for writes in 0..=5 {
        everywhere(async |mut bench| {
            let (old, parent) = (bench.checkpoint(50).await, bench.checkpoint(100).await);
            let newest = bench.checkpoint(150).await;
            let dying = Place::new(Faulty::after(writes, Arc::clone(&bench.store)), bench.place.path(""));
            let (mut journal, _) = Journal::<Entry>::open(dying.clone(), run()).await.expect("opens");
            let recorded = journal.append(&Entry::Dropped { checkpoints: vec![old.clone()] }).await;
            assert_eq!(recorded.is_ok(), writes > 0);
            if recorded.is_ok() {
                let deleted = prune::delete(&dying, &run(), &old).await;
                assert_eq!(deleted.is_ok(), writes == 5, "the fault must fire: {deleted:?}");
            }
            // Whoever comes now loads the newest, and its parent if that is damaged.
            assert_eq!(bench.reader().await.latest().await.expect("whole").commit.step, 150);
            let model = layout::object(&newest, layout::MODEL);
            bench.flip(&model, 0).await;
            assert_eq!(bench.reader().await.latest().await.expect("the parent").commit.prefix, parent);
            bench.flip(&model, 0).await;
            // Nothing is deleted before the journal says so; whatever was left then is gone after the next start.
            let kept = if writes == 0 { vec![old, parent, newest] } else { vec![parent, newest] };
            let left = bench.sweep().await;
            assert_eq!((left > 0, bench.folders().await), (writes > 0 && writes < 5, kept));
        })
        .await;
    }
}

#[tokio::test]
async fn a_fenced_coordinator_drops_nothing() {
    everywhere(async |mut bench| {
        let old = bench.checkpoint(50).await;
        bench.checkpoint(100).await;
        let (mut older, _) = Journal::<Entry>::open(bench.place.clone(), run()).await.expect("opens");
        bench.journal.append(&opened("newer")).await.expect("appends");
        let refused = older.append(&Entry::Dropped { checkpoints: vec![old.clone()] }).await;
        assert!(matches!(refused, Err(JournalError::Fenced { .. })), "{refused:?}");
        assert_eq!(bench.sweep().await, 0);
        assert_eq!(bench.reader().await.ledger().dropped(), &BTreeSet::new());
    })
    .await;
}

#[tokio::test]
async fn every_single_byte_of_a_checkpoint_counts() {
    let mut bench = Bench::on(Arc::new(InMemory::new()), "").await;
    bench.checkpoint(50).await;
    let prefix = bench.checkpoint(100).await;
    let reader = bench.reader().await;
    let commit = reader.commit_of(100).expect("committed").clone();
    assert_eq!(inspect(&bench.place, &commit).await.expect("the store answers"), []);
    let mut flipped = 0;
    for name in [layout::MODEL, layout::OPTIMIZER, layout::RUN, layout::MANIFEST] {
        let path = layout::object(&prefix, name);
        for at in 0..bench.place.read(&path).await.expect("there").len() {
            bench.flip(&path, at).await;
            let loaded = reader.latest().await.expect("the parent is whole");
            let named: Vec<String> = loaded.passed_over.into_iter().map(|damage| damage.path).collect();
            let found = inspect(&bench.place, &commit).await.expect("the store answers");
            let found: Vec<String> = found.into_iter().map(|damage| damage.path).collect();
            assert_eq!(
                (loaded.commit.step, &named, &found),
                (50, &vec![path.clone()], &vec![path.clone()]),
                "byte {at}"
            );
            bench.flip(&path, at).await;
            flipped += 1;
        }
    }
    assert!(flipped > 500, "{flipped} bytes");
    assert_eq!(reader.latest().await.expect("whole again").commit.step, 100);
}

#[tokio::test]
async fn every_damaged_object_is_named() {
    everywhere(async |mut bench| {
        let prefix = bench.checkpoint(50).await;
        let [model, optimizer] = [layout::MODEL, layout::OPTIMIZER].map(|name| layout::object(&prefix, name));
        bench.flip(&model, 3).await;
        bench.store.delete(&bench.place.path(&optimizer)).await.expect("deletes");
        let commit = bench.reader().await.commit_of(50).expect("committed").clone();
        let found = inspect(&bench.place, &commit).await.expect("the store answers");
        assert_eq!(found.iter().map(|damage| &damage.path).collect::<Vec<_>>(), [&model, &optimizer]);
        assert!(found[0].to_string().contains("holds other bytes") && found[1].difference == Difference::Missing);
    })
    .await;
}
