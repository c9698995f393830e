//! Launched programs, played by shell scripts.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use clap::Parser;
use coordinator::{args::Args, config::Config};
use runtime::{
    exit::{Code, code_of, one_line},
    shutdown::Shutdown,
};
use tokio::time::timeout;

use super::player::LONG;

/// Runs a coordinator whose programs are these scripts; says how it ended.
async fn ended(store: &str, worker: &str, dataloader: &str) -> (Code, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (program, script) in [("worker", worker), ("dataloader", dataloader)] {
        let path = folder.path().join(program);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    }
    let logs = folder.path().join("logs");
    let arguments = ["coordinator", "--store", store, "--patience", "500ms", "--log-dir", text(&logs)];
    let args = Args::try_parse_from(arguments).expect("well-formed");
    let config = Config::new(args, folder.path(), "coordinator --go-on".to_owned()).expect("good");
    let listener = coordinator::listen(config.listen).await.expect("a free port");
    let run = coordinator::run(config, listener, Shutdown::default());
    let (code, line) = match timeout(LONG, run).await.expect("in time") {
        Ok(code) => (code, String::new()),
        Err(error) => (code_of(&error), one_line(&error)),
    };
    (code, line.replace(text(folder.path()), ""))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

const DEMO_ONLY: &str = "case $1 in demo) exit 0;; *) exec sleep 1000;; esac";

#[tokio::test]
async fn a_misconfigured_program_stops_the_run_with_its_last_line() {
    let worker = "echo 'error: model.widths is empty' >&2; exit 78";
    let (code, line) = ended("memory://c78", worker, DEMO_ONLY).await;
    assert_eq!((code, line.as_str()), (Code::Misconfigured, "worker-0: model.widths is empty"));
}

#[tokio::test]
async fn a_program_that_keeps_dying_is_given_up_after_three_restarts() {
    let (code, line) = ended("memory://c1", "echo 'error: no such device'; exit 1", DEMO_ONLY).await;
    assert_eq!(
        (code, line.as_str()),
        (
            Code::Failed,
            "gave up after 3 restarts without getting further than step 0: worker-0 exited with code 1: error: no such \
         device (log: /logs/demo/worker-0.log)"
        )
    );
}

#[tokio::test]
async fn a_program_that_never_joins_is_given_up_by_name() {
    let (code, line) = ended("memory://never", "exec sleep 1000", DEMO_ONLY).await;
    assert_eq!(
        (code, line.as_str()),
        (
            Code::Failed,
            "waited 3s in vain for worker-0 (0 of 1 workers are here) and a loader that has opened the data; their logs \
         may say why"
        )
    );
}

#[tokio::test]
async fn demo_clips_that_can_not_be_made_end_it_before_it_began() {
    let (code, line) = ended("memory://demo", "exit 1", "exit 3").await;
    assert_eq!(
        (code, line.as_str()),
        (Code::Failed, "`dataloader demo --to memory://demo/data/demo` failed (exit status: 3); its message is above")
    );
}
