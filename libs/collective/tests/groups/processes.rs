//! Ranks in two processes: this test binary starts itself as the peer and kills it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use collective::{Address, Group, Member, MemoryStore, Store, StoreError};
use tch::Tensor;

const SOCKET: &str = "VARED_TEST_STORE_SOCKET";

fn member(rank: u32) -> Member {
    Member { rank, world: 2, timeout: Duration::from_secs(30), address: Address::local() }
}

/// A store in another process. One request a connection, one line each: `set KEY HEX` or `get KEY MS`.
struct SocketStore(String);

impl SocketStore {
    fn ask(&self, request: &str) -> Result<Vec<u8>, StoreError> {
        let mut stream = UnixStream::connect(&self.0)?;
        writeln!(stream, "{request}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        line.trim_end_matches('\n').strip_prefix("ok ").map(from_hex).ok_or_else(|| line.clone().into())
    }
}

impl Store for SocketStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.ask(&format!("set {key} {}", to_hex(value))).map(drop)
    }
    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.ask(&format!("get {key} {}", timeout.as_millis()))
    }
    fn add(&self, key: &str, _: i64) -> Result<i64, StoreError> {
        Err(format!("add {key}: not served").into())
    }
    fn check(&self, key: &str) -> Result<bool, StoreError> {
        Err(format!("check {key}: not served").into())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex of our own making");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Serves `store` to the peer's process until the test ends.
fn serve(socket: &Path, store: &Arc<MemoryStore>) {
    let listener = UnixListener::bind(socket).expect("a fresh temporary folder");
    let store = Arc::clone(store);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let store = Arc::clone(&store);
            std::thread::spawn(move || answer(stream, &store));
        }
    });
}

fn answer(mut stream: UnixStream, store: &MemoryStore) {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).expect("the peer writes a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    let reply = match words[0] {
        "set" => store.set(words[1], &from_hex(words.get(2).copied().unwrap_or(""))).map(|()| Vec::new()),
        _ => store.get(words[1], Duration::from_millis(words[2].parse().expect("milliseconds"))),
    };
    let reply = reply.map_or_else(|e| format!("failed {e}"), |value| format!("ok {}", to_hex(&value)));
    // A peer that was killed no longer reads.
    let _ = writeln!(stream, "{reply}");
}

/// The peer: sums once, then never again.
#[test]
#[ignore = "the other tests start it as their peer process"]
fn peer() {
    let socket = std::env::var(SOCKET).expect("started by another test, which names its store's socket");
    let mut group = Group::gloo(Arc::new(SocketStore(socket)), member(1)).expect("rank 0 is there");
    let tensor = Tensor::from_slice(&[2.0f32, 4.0]);
    group.all_reduce_sum(&tensor).expect("rank 0 is there");
    // Until it is killed; ends by itself when the test is gone (its standard input closes).
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn start_peer(socket: &Path) -> Child {
    Command::new(std::env::current_exe().expect("a test knows its own path"))
        .args(["--exact", "processes::peer", "--ignored", "--nocapture"])
        .env(SOCKET, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test binary starts again")
}

#[test]
fn a_killed_peer_is_seen_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("store");
    let store = Arc::new(MemoryStore::new());
    serve(&socket, &store);
    let mut peer = start_peer(&socket);
    let mut group = Group::gloo(store, member(0)).expect("the peer comes");
    let tensor = Tensor::from_slice(&[1.0f32, 1.0]);
    group.all_reduce_sum(&tensor).expect("the peer is there");
    assert_eq!(Vec::<f32>::try_from(&tensor).expect("floats"), [3.0, 5.0]);

    // The survivor waits inside a sum when the peer is killed: it has said that it is about to enter.
    let (entering, entered) = mpsc::sync_channel(1);
    let survivor = std::thread::spawn(move || {
        entering.send(()).expect("the test listens");
        let error = group.all_reduce_sum(&Tensor::from_slice(&[1.0f32, 1.0])).expect_err("the peer never sums again");
        (error, Instant::now())
    });
    entered.recv().expect("the survivor starts");
    let killed = Instant::now();
    peer.kill().expect("the peer runs");
    peer.wait().expect("the peer ends");
    let (error, seen) = survivor.join().expect("no panic");
    assert!(!error.is_timeout(), "{error}");
    assert!(error.to_string().contains("a peer is gone"), "{error}");
    let after = seen.saturating_duration_since(killed);
    println!("seen {after:?} after the kill: {error}");
    assert!(after < Duration::from_secs(1), "{after:?}");
}
