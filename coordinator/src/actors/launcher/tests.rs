//! With shell scripts in place of the programs.

use std::{fs, os::unix::fs::PermissionsExt};

use runtime::ask::ask;

use super::*;
use crate::actors::ear::{self, Heard};

/// Long enough for a shell on a busy machine; no test waits for it unless it fails.
const LONG: Duration = Duration::from_secs(60);

struct Scene {
    launcher: ActorRef<LauncherMsg>,
    run: ActorRef<RunMsg>,
    heard: Heard,
    folder: tempfile::TempDir,
}

impl Scene {
    /// `script` is what worker and loader do.
    async fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("made executable");
        let programs = Programs { worker: program.clone(), dataloader: program };
        let args = LauncherArgs { programs, log_dir: folder.path().to_owned(), url: "http://here:1".to_owned() };
        let (launcher, _) = Actor::spawn(None, LauncherActor, args).await.expect("starts");
        let (run, heard) = ear::listen().await;
        Self { launcher, run, heard, folder }
    }

    fn launch(&self, seat: &str) {
        let message = LauncherMsg::Launch(name(seat), Duration::ZERO, self.run.clone());
        self.launcher.cast(message).expect("lives");
    }

    /// The next end of a process, with the folder cut out.
    async fn end(&mut self) -> (String, String) {
        let message = tokio::time::timeout(LONG, self.heard.recv()).await.expect("in time").expect("the ear lives");
        let RunMsg::Happened(Event::ChildEnded { child, end }) = message else { panic!("only ends are told") };
        (child.to_string(), end.to_string().replace(&format!("{}/", self.folder.path().display()), ""))
    }

    fn log(&self, seat: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{seat}.log"))).expect("a log")
    }

    /// Waits until a script has made a file.
    async fn wait_for(&self, file: &str) {
        let path = self.folder.path().join(file);
        let there = async {
            while !path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, there).await.expect("in time");
    }
}

fn name(seat: &str) -> MemberName {
    seat.parse().expect("a good name")
}

fn ended(seat: &str, how: &str) -> (String, String) {
    (seat.to_owned(), how.to_owned())
}

#[tokio::test]
async fn programs_get_their_verb_the_url_and_their_name() {
    let mut scene = Scene::new("echo $@").await;
    scene.launch("worker-0");
    scene.end().await;
    scene.launch("loader-0");
    scene.end().await;
    assert_eq!(scene.log("worker-0"), "run --coordinator http://here:1 --name worker-0\n");
    assert_eq!(scene.log("loader-0"), "serve --coordinator http://here:1 --name loader-0\n");
}

#[tokio::test]
async fn the_error_line_is_preferred_to_the_last_line() {
    let mut scene = Scene::new("echo 'error: no such store' >&2; echo bye; exit 78").await;
    scene.launch("worker-0");
    assert_eq!(scene.end().await, ended("worker-0", "exited with code 78: error: no such store (log: worker-0.log)"));
}

#[tokio::test]
async fn an_old_line_in_the_log_is_not_the_new_process_s() {
    let mut scene = Scene::new("exit 5").await;
    fs::write(scene.folder.path().join("worker-0.log"), "error: of long ago\n").expect("written");
    scene.launch("worker-0");
    assert_eq!(scene.end().await, ended("worker-0", "exited with code 5 (log: worker-0.log)"));
}

#[tokio::test]
async fn a_process_can_be_killed() {
    let mut scene = Scene::new("exec sleep 1000").await;
    scene.launch("worker-0");
    scene.wait_for("worker-0.log").await;
    scene.launcher.cast(LauncherMsg::Kill(name("worker-0"))).expect("lives");
    assert_eq!(scene.end().await, ended("worker-0", "was killed by signal 9 (SIGKILL) (log: worker-0.log)"));
}

#[tokio::test]
async fn a_release_waits_for_all_and_kills_after_the_grace() {
    let mut scene = Scene::new("case $5 in worker-1) exec sleep 1000;; esac").await;
    scene.launch("worker-0");
    scene.launch("worker-1");
    scene.wait_for("worker-1.log").await;
    let grace = Duration::from_millis(10);
    ask(&scene.launcher, "the launcher", LONG, |reply| LauncherMsg::Release(grace, reply)).await.expect("released");
    let mut ends = [scene.end().await, scene.end().await];
    ends.sort();
    assert_eq!(ends[0].0, "worker-0");
    assert_eq!(ends[1], ended("worker-1", "was killed by signal 9 (SIGKILL) (log: worker-1.log)"));
}

#[tokio::test]
async fn a_program_that_can_not_run_is_an_end_too() {
    let mut scene = Scene::new("").await;
    fs::remove_file(scene.folder.path().join("program")).expect("it was there");
    scene.launch("worker-0");
    let (_, end) = scene.end().await;
    assert!(end.starts_with("could not be started: No such file"), "{end}");
}

#[tokio::test]
async fn nothing_outlives_its_parent() {
    // The kernel means the parent's thread: one that ends stands in for a coordinator that is killed.
    let runtime = tokio::runtime::Handle::current();
    let parent = std::thread::spawn(move || {
        let _entered = runtime.enter();
        let mut command = tokio::process::Command::new("sleep");
        command.arg("1000");
        die_with_parent(&mut command);
        command.spawn().expect("starts")
    });
    let mut orphan = parent.join().expect("no panic");
    let status = tokio::time::timeout(LONG, orphan.wait()).await.expect("in time").expect("waited for");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
}
