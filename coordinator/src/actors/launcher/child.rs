//! One launched process and what it left in its log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use cluster::{
    event::{ChildEnd, Exit},
    ids::MemberName,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::LauncherArgs;

/// How much of a log's end is searched for the line that says why.
const TAIL_BYTES: u64 = 16 << 10;

/// glibc gives a tensor's memory back to the kernel after each use, and takes it again, page by page: 8 to 12 % of a
/// worker's CPU time. Not so with these.
const KEEP_MEMORY: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "1073741824"), ("MALLOC_TRIM_THRESHOLD_", "4294967296")];

/// A running process.
pub(super) struct Child {
    process: tokio::process::Child,
    log: PathBuf,
    /// Where this process's lines begin in a log that outlives it.
    begins_at: u64,
}

/// Starts the program that belongs into a seat.
pub(super) fn start(args: &LauncherArgs, seat: &MemberName, log: &Path) -> io::Result<Child> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    let begins_at = file.metadata()?.len();
    let (program, verb) = match seat.as_str().starts_with("loader") {
        true => (&args.programs.dataloader, "serve"),
        false => (&args.programs.worker, "run"),
    };
    let mut command = Command::new(program);
    command.args([verb, "--coordinator", &args.url, "--name", seat.as_str()]);
    if verb == "run" {
        command.envs(KEEP_MEMORY);
    }
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
    // A group of its own: Ctrl-C in the terminal is for the coordinator, which then drains its workers.
    command.process_group(0);
    die_with_parent(&mut command);
    let process = command.spawn()?;
    Ok(Child { process, log: log.to_owned(), begins_at })
}

/// The process is killed when this one dies, however this one dies.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let before_exec = move || {
        // SAFETY: both calls are async-signal-safe and take no pointers.
        let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the request was made: then nobody would ever send the signal.
        if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: the closure allocates nothing and takes no lock, as code between fork and exec must not.
    unsafe { command.pre_exec(before_exec) };
}

impl Child {
    /// Waits for its end, which cancelling `kill` brings about.
    pub(super) async fn watch(mut self, kill: CancellationToken) -> ChildEnd {
        let status = tokio::select! {
            status = self.process.wait() => status,
            () = kill.cancelled() => {
                // An error means that it has just ended by itself.
                let _ = self.process.start_kill();
                self.process.wait().await
            }
        };
        ChildEnd {
            how: status.map_or_else(|error| Exit::NotStarted(error.to_string()), how),
            last_line: last_line(&self.log, self.begins_at),
            log: self.log.display().to_string(),
        }
    }
}

fn how(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// The last line that says `error:`, else the last one that says anything.
fn last_line(log: &Path, begins_at: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(begins_at.max(end.saturating_sub(TAIL_BYTES)))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty()).rev();
    let found = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next());
    found.map(str::to_owned)
}
