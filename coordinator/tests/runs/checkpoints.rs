//! The checkpoints of a run: kept, read back, dropped, by the coordinator and by hand.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use checkpoint::{Journal, Place, Snapshot, Writer, layout};
use clap::Parser;
use cluster::{
    ids::{GenerationNumber, RunName},
    ledger::Entry,
    report::Commit,
};
use coordinator::{
    args::{Cli, Command},
    checkpoints::{Answer, answer},
};
use object_store::{ObjectStoreExt, PutPayload};
use proto::coordinator::{Stored, from_member::Event};
use runtime::{
    exit::{Code, code_of, one_line},
    store::{self, Store},
};
use serde_json::Value;

use super::player::Stage;

fn run() -> RunName {
    "play".parse().expect("a good name")
}

fn place(store: &Store) -> Place {
    Place::new(Arc::clone(&store.store), store.root.clone())
}

/// What a worker does: it uploads the objects of a step, and says so.
async fn upload(store: &Store, step: u64) -> checkpoint::Stored {
    let objects = [layout::MODEL, layout::OPTIMIZER, layout::RUN]
        .map(|name| (name.to_owned(), Bytes::from(format!("{name} after {step} steps"))));
    let snapshot = Snapshot { step, generation: GenerationNumber(1), parent: None, objects: BTreeMap::from(objects) };
    Writer::new(place(store), run()).put(&snapshot).await.expect("stores")
}

/// A run that has left checkpoints of these steps, the first of them evaluated; with the journal of who made it.
async fn left(url: &str, steps: &[u64]) -> (Store, Journal<Entry>) {
    let store = store::open(url).expect("opens");
    let (mut journal, _) = Journal::<Entry>::open(place(&store), run()).await.expect("opens");
    let created = Entry::Created { run: run(), recipe: String::new(), recipe_digest: String::new() };
    journal.append(&created).await.expect("appends");
    for step in steps {
        let checkpoint::Stored { step, generation, prefix, manifest_digest } = upload(&store, *step).await;
        let commit = Commit { step, generation, prefix, manifest_digest };
        journal.append(&Entry::Committed(commit)).await.expect("appends");
    }
    journal.append(&Entry::Evaluated { step: steps[0], top1: 0.875, loss: 1.0 }).await.expect("appends");
    (store, journal)
}

async fn asked(arguments: &[&str]) -> anyhow::Result<Answer> {
    let all = ["coordinator", "checkpoints"].into_iter().chain(arguments.iter().copied());
    let Some(Command::Checkpoints(command)) = Cli::try_parse_from(all).expect("well-formed").command else {
        panic!("no command about checkpoints: {arguments:?}")
    };
    answer(command).await
}

async fn told(arguments: &[&str]) -> (Code, String) {
    let Answer { code, text } = asked(arguments).await.expect("an answer");
    (code, text)
}

async fn flip(store: &Store, path: &str) {
    let path = store.path(path);
    let mut bytes = store.store.get(&path).await.expect("there").bytes().await.expect("reads").to_vec();
    bytes[3] ^= 1;
    store.store.put(&path, PutPayload::from(bytes)).await.expect("overwrites");
}

/// Whether anything is left of a checkpoint.
async fn is_there(store: &Store, step: u64) -> bool {
    let folders = checkpoint::prune::folders(&place(store), &run()).await.expect("lists");
    folders.contains_key(&layout::checkpoint(&run(), step, GenerationNumber(1)))
}

#[tokio::test]
async fn a_coordinator_keeps_what_its_flags_say_and_deletes_the_rest() {
    let url = "memory://retention";
    let store = store::open(url).expect("opens");
    let stage = Stage::open(url, &["--workers", "1", "--keep-last", "1", "--keep-every", "4"]).await;
    let (_loader, mut zero) = (stage.loader().await, stage.worker("worker-0").await);
    zero.generation().await;
    zero.form(1, 0).await;
    // Beside the run, not in its way: the first is gone some commits later.
    let mut step = 0;
    while step < 4 || is_there(&store, 1).await {
        step += 1;
        assert!(step < 200, "the first checkpoint is still there after {step} commits");
        let checkpoint::Stored { prefix, manifest_digest, .. } = upload(&store, step).await;
        zero.say(Event::Stored(Stored { generation: 1, step, prefix, manifest_digest })).await;
        assert_eq!(zero.committed().await, step);
    }
    assert!(is_there(&store, 4).await, "one for each four steps stays");
    assert!(is_there(&store, step).await && is_there(&store, step - 1).await, "so do the newest two");
    let listed = told(&["list", "--run", "play", "--store", url, "--json"]).await.1;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let steps: Vec<u64> =
        listed["checkpoints"].as_array().expect("a list").iter().filter_map(|line| line["step"].as_u64()).collect();
    assert!(!steps.contains(&1) && steps.contains(&4), "{steps:?}");
}

#[tokio::test]
async fn a_list_shows_each_checkpoint_and_what_else_lies_there() {
    let url = "memory://list";
    let (store, mut journal) = left(url, &[10, 20, 30]).await;
    upload(&store, 40).await;
    let dropped = layout::checkpoint(&run(), 20, GenerationNumber(1));
    journal.append(&Entry::Dropped { checkpoints: vec![dropped] }).await.expect("appends");
    let (code, text) = told(&["list", "--run", "play", "--store", url]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(code, Code::Done);
    assert!(lines[0].starts_with("run `play` in memory://list: 2 checkpoints, "), "{text}");
    assert!(lines[2].contains("10           1  87.5 %"), "{text}");
    assert!(
        lines[3].contains("30           1       -") && lines[3].ends_with("play/checkpoints/00000030-g1"),
        "{text}"
    );
    assert!(lines[4].starts_with("no commit names runs/play/checkpoints/00000040-g1 (4 objects, "), "{text}");
    assert!(lines[5].starts_with("dropped, not deleted yet: runs/play/checkpoints/00000020-g1 (4 objects"), "{text}");
}

#[tokio::test]
async fn a_flipped_byte_is_found_and_its_object_named() {
    let url = "memory://verify";
    let (store, _) = left(url, &[10, 20]).await;
    let whole = "step 10: whole (runs/play/checkpoints/00000010-g1)\n";
    let (code, text) = told(&["verify", "--run", "play", "--store", url]).await;
    assert_eq!((code, text.starts_with(whole), text.lines().count()), (Code::Done, true, 2), "{text}");
    flip(&store, "runs/play/checkpoints/00000020-g1/model.safetensors").await;
    let (code, text) = told(&["verify", "--run", "play", "--store", url]).await;
    assert_eq!((code, text.starts_with(whole)), (Code::Failed, true), "{text}");
    assert!(
        text.contains("step 20: damaged") && text.contains("00000020-g1/model.safetensors holds other bytes"),
        "{text}"
    );
    assert_eq!(
        told(&["verify", "--run", "play", "--store", url, "--step", "10"]).await,
        (Code::Done, whole.to_owned())
    );
    let json = told(&["verify", "--run", "play", "--store", url, "--step", "20", "--json"]).await.1;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["checkpoints"][0]["is_whole"], false);
    assert_eq!(json["checkpoints"][0]["damages"][0]["object"], "runs/play/checkpoints/00000020-g1/model.safetensors");
}

#[tokio::test]
async fn prune_changes_nothing_until_it_is_told_to_delete() {
    let url = "memory://prune";
    let (store, mut journal) = left(url, &[10, 20, 30, 40]).await;
    flip(&store, "runs/play/checkpoints/00000040-g1/model.safetensors").await;
    let prune = ["prune", "--run", "play", "--store", url, "--keep-last", "1", "--keep-best", "1"];
    for more in [&[][..], &["--dry-run"]] {
        let (code, text) = told(&[&prune[..], more].concat()).await;
        assert_eq!(code, Code::Done);
        // The newest is damaged: two others stay for it. The first is the best.
        assert_eq!(text, format!("{}no checkpoint is surplus: all stay\n", damage()));
    }
    let prune = ["prune", "--run", "play", "--store", url, "--keep-last", "1"];
    let (_, text) = told(&prune).await;
    let would = "would drop runs/play/checkpoints/00000010-g1\nnothing was changed; with --delete they go\n";
    assert_eq!(text, format!("{}{would}", damage()));
    assert!(is_there(&store, 10).await);
    let (code, text) = told(&[&prune[..], &["--delete"]].concat()).await;
    let done = "dropped runs/play/checkpoints/00000010-g1\n4 objects deleted\n";
    assert_eq!((code, text), (Code::Done, format!("{}{done}", damage())));
    let there = [is_there(&store, 10).await, is_there(&store, 20).await, is_there(&store, 40).await];
    assert_eq!(there, [false, true, true]);
    // Whoever had the run is fenced.
    let fenced = journal.append(&Entry::Opened { coordinator: "older".to_owned() }).await;
    assert!(matches!(fenced, Err(checkpoint::journal::JournalError::Fenced { .. })), "{fenced:?}");
}

fn damage() -> String {
    let digest = |text: &[u8]| checkpoint::manifest::digest(text)[..12].to_owned();
    let (written, mut found) = (b"model.safetensors after 40 steps", *b"model.safetensors after 40 steps");
    found[3] ^= 1;
    format!(
        "damaged: runs/play/checkpoints/00000040-g1/model.safetensors holds other bytes than were written: blake3 {} \
         instead of {}\n",
        digest(&found),
        digest(written)
    )
}

#[tokio::test]
async fn what_can_not_be_done_says_why() {
    let url = "memory://wrong";
    left(url, &[10]).await;
    let cases = [
        (&["list", "--run", "typo", "--store", url][..], Code::Misconfigured, "there is no run \"typo\" in this store"),
        (&["verify", "--run", "play", "--store", url, "--step", "11"], Code::Misconfigured, "it has those of steps 10"),
        (&["prune", "--run", "play", "--store", url], Code::Misconfigured, "give --keep-last K"),
        (&["list", "--run", "play", "--store", "/no/such/folder"], Code::Misconfigured, "/no/such"),
    ];
    for (arguments, code, because) in cases {
        let error = asked(arguments).await.expect_err("refused");
        let line = one_line(&error);
        assert!(code_of(&error) == code && line.contains(because), "{arguments:?}: {line}");
    }
}
