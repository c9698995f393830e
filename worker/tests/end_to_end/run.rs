//! A run from outside: the coordinator's process, everything that it launches, and what they leave in the store.
//!
//! Every wait is for an event (a line, the end of a stream) and has a limit.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::data;

/// Nothing in a test takes this long, on the busiest machine.
const LIMIT: Duration = Duration::from_secs(120);
/// More lines than a test's run has.
const LINES: usize = 4096;

/// A program beside the worker's. The first call builds the two that this package's tests don't bring along.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "coordinator", "--package", "dataloader"]);
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the coordinator and the loader don't build");
        Path::new(env!("CARGO_BIN_EXE_worker")).parent().expect("a program is in a folder").to_owned()
    });
    folder.join(name)
}

/// A folder with a data set, a recipe and a store, and the machine for itself: two runs at once would only be slower.
pub struct World {
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What training leaves.
#[derive(PartialEq, Eq)]
pub struct Bytes {
    pub model: Vec<u8>,
    pub average: Vec<u8>,
    pub optimizer: Vec<u8>,
}

/// A run that goes on.
pub struct Running {
    process: Child,
    /// The whole standard output, once no process holds it open any more.
    stdout: Receiver<String>,
    stderr: thread::JoinHandle<String>,
    metrics: Metrics,
}

/// `tail` hands on the lines of metrics.jsonl as they are written.
struct Metrics {
    tail: Child,
    lines: Receiver<Value>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    pub fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a temporary folder");
        data::make(folder.path());
        Self { folder, _turn: turn }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts or goes on with a run.
    pub fn start(&self, run: &str, workers: u32) -> Running {
        self.start_with(run, workers, "")
    }

    /// The same with more arguments.
    pub fn start_with(&self, run: &str, workers: u32, more: &str) -> Running {
        let coordinator = program("coordinator").display().to_string();
        let arguments = ["--recipe", "small.toml", "--store", "store", "--log-dir", "logs", "--run", run];
        self.start_command(run, &format!("{coordinator} {} --workers {workers} {more}", arguments.join(" ")))
    }

    /// The same by a command line, as the coordinator prints it.
    pub fn start_command(&self, run: &str, command: &str) -> Running {
        // A second copy of stdout is inherited by whatever the coordinator launches: its end is the end of them all.
        let mut process = Command::new("sh")
            .args(["-c", &format!("exec {command} 3>&1")])
            .current_dir(self.folder())
            .env_remove("VARED_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the coordinator starts");
        let (mut out, mut err) = (process.stdout.take().expect("piped"), process.stderr.take().expect("piped"));
        let (send, stdout) = sync_channel(1);
        thread::spawn(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            let _ = send.send(text);
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        Running { process, stdout, stderr, metrics: Metrics::of(&self.logs(run)) }
    }

    /// Trains from start to end without a disturbance.
    pub fn train(&self, run: &str, workers: u32) -> Ended {
        self.train_with(run, workers, "")
    }

    /// The same with more arguments.
    pub fn train_with(&self, run: &str, workers: u32, more: &str) -> Ended {
        let ended = self.start_with(run, workers, more).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    pub fn logs(&self, run: &str) -> PathBuf {
        self.folder().join("logs").join(run)
    }

    /// Every line that a run has left in its metrics.jsonl.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.logs(run).join("metrics.jsonl")).expect("the run has metrics");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Folders of the committed checkpoints, oldest first.
    pub fn commits(&self, run: &str) -> Vec<PathBuf> {
        let journal = fs::read_dir(self.folder().join("store/runs").join(run).join("journal"));
        let mut entries: Vec<PathBuf> =
            journal.expect("a journal").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        let read = |path: &PathBuf| fs::read_to_string(path).expect("an entry");
        let parse = |text: String| serde_json::from_str::<Value>(&text).expect("JSON")["record"].clone();
        let committed = entries.iter().map(read).map(parse).filter(|record| record["entry"] == "committed");
        let prefix = |record: Value| self.folder().join("store").join(record["prefix"].as_str().expect("a folder"));
        committed.map(prefix).collect()
    }

    /// The last committed weights and optimizer.
    pub fn bytes(&self, run: &str) -> Bytes {
        let last = self.commits(run).pop().expect("a checkpoint is committed");
        let read = |name: &str| fs::read(last.join(name)).expect("part of a checkpoint");
        Bytes {
            model: read("model.safetensors"),
            average: read("average.safetensors"),
            optimizer: read("optimizer.safetensors"),
        }
    }

    /// Two runs ended in the same place.
    pub fn assert_same_bytes(&self, one: &str, other: &str) {
        let (one_bytes, other_bytes) = (self.bytes(one), self.bytes(other));
        assert!(!one_bytes.model.is_empty() && !one_bytes.optimizer.is_empty());
        assert!(one_bytes.model == other_bytes.model, "the weights of `{one}` and `{other}` differ");
        assert!(one_bytes.average == other_bytes.average, "the averages of `{one}` and `{other}` differ");
        assert!(one_bytes.optimizer == other_bytes.optimizer, "the optimizers of `{one}` and `{other}` differ");
    }
}

impl Metrics {
    fn of(logs: &Path) -> Self {
        fs::create_dir_all(logs).expect("a folder");
        let file = logs.join("metrics.jsonl");
        fs::OpenOptions::new().create(true).append(true).open(&file).expect("a file");
        // From its end: what earlier starts have written is no news.
        let mut tail = Command::new("tail")
            .args(["--follow", "--bytes=0"])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("tail starts");
        let (send, lines) = sync_channel(LINES);
        let out = BufReader::new(tail.stdout.take().expect("piped"));
        thread::spawn(move || {
            let values = out.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            for value in values {
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        Self { tail, lines }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let _ = self.tail.kill();
        let _ = self.tail.wait();
    }
}

impl Running {
    /// Waits until the run has written a line like this.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        loop {
            match self.metrics.lines.recv_timeout(LIMIT) {
                Ok(line) if is_it(&line) => return,
                Ok(_) => {}
                Err(error) => panic!("no {what} in metrics.jsonl within {LIMIT:?}: {error}"),
            }
        }
    }

    /// Waits until a step is done.
    pub fn wait_for_step(&self, step: u64) {
        self.wait_for(&format!("step {step}"), |line| line["event"] == "step" && line["step"] == step);
    }

    /// Waits until the checkpoint of a step is committed.
    pub fn wait_for_commit(&self, step: u64) {
        self.wait_for(&format!("commit {step}"), |line| line["event"] == "committed" && line["step"] == step);
    }

    /// Sends a signal to the coordinator alone.
    pub fn signal(&self, signal: &str) {
        send(signal, &[self.process.id()]);
    }

    /// Kills the coordinator and all that it has launched, at once.
    pub fn kill_all(&self) {
        let mut all: Vec<u32> = children(self.process.id()).into_iter().map(|(id, _)| id).collect();
        assert!(all.len() >= 2, "a worker and a loader at least: {all:?}");
        all.push(self.process.id());
        send("KILL", &all);
    }

    /// Kills the launched process of this name.
    pub fn kill_child(&self, name: &str) {
        let all = children(self.process.id());
        let child = all.iter().find(|(_, command)| command.contains(&name.to_owned()));
        send("KILL", &[child.unwrap_or_else(|| panic!("{name} runs: {all:?}")).0]);
    }

    /// Waits until the coordinator and all that it has launched are gone.
    pub fn end(mut self) -> Ended {
        let stdout = self.stdout.recv_timeout(LIMIT).expect("the coordinator and all its processes end in time");
        let status = self.process.wait().expect("a process of this test");
        let stderr = self.stderr.join().expect("it only reads");
        Ended { code: status.code(), stdout, stderr }
    }
}

fn send(signal: &str, processes: &[u32]) {
    let ids = processes.iter().map(u32::to_string);
    let status = Command::new("sh").args(["-c", "kill -\"$0\" \"$@\"", signal]).args(ids).status().expect("a shell");
    assert!(status.success(), "can't send {signal} to {processes:?}");
}

/// The processes that `parent` has started, with their command lines.
fn children(parent: u32) -> Vec<(u32, Vec<String>)> {
    let task = format!("/proc/{parent}/task");
    let of_thread = |entry: std::io::Result<fs::DirEntry>| {
        let list = entry.ok().and_then(|entry| fs::read_to_string(entry.path().join("children")).ok());
        list.unwrap_or_default()
    };
    let lists: Vec<String> = fs::read_dir(task).expect("the coordinator runs").map(of_thread).collect();
    let ids = lists.iter().flat_map(|list| list.split_whitespace()).map(|id| id.parse().expect("a number"));
    let command = |id: u32| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    ids.map(|id: u32| (id, command(id).split('\0').map(str::to_owned).collect())).collect()
}
