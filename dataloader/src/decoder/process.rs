//! The loader's end: one decoder and the process that is it at the moment.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clips::decode::Survey;
use clips::index::Description;
use clips::{DataConfig, Frames, ViewConfig, ViewPixels};
use rustix::fs::{MemfdFlags, memfd_create};

use super::wire::{Facts, Memory, Reply, Request, What, Which, receive, send};
use super::{Death, Fault, Settings};

/// A process starts within this, on the busiest of machines.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Processes that a clip may cost. A second one, because the first may have died of something else: what a batch holds
/// must not depend on who else ran out of memory.
const TRIES: u32 = 2;

/// The signal of `abort`.
const ABORTED: i32 = 6;

/// Receives what comes, and says whether more is wanted.
pub type Sink<'a, T> = &'a mut dyn FnMut(T) -> ControlFlow<()>;

/// One decoder. Whoever holds it waits for it: it belongs on a thread of its own, and its process dies with that thread.
pub struct Decoder {
    settings: Settings,
    running: Option<Process>,
    lost: u64,
}

impl Decoder {
    /// Starts the first process.
    pub fn start(settings: Settings) -> Result<Self, Fault> {
        let mut decoder = Self { settings, running: None, lost: 0 };
        decoder.process()?;
        Ok(decoder)
    }

    /// The number of the process that runs, if any.
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|process| process.child.id())
    }

    /// Processes that were lost since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The views of a file that a position asks for, one after the other, each thwc.
    pub fn clip(&mut self, file: &Bytes, data: &DataConfig, augment_seed: Option<u64>) -> Result<Vec<u8>, Fault> {
        let what = What::Clip { data: Box::new(data.clone()), augment_seed };
        let bytes = data.clip_bytes() as u64 * u64::from(data.views_of(augment_seed.is_some()));
        self.tried(file, &what, &|process, reply| match reply {
            Reply::Clip { pixel_bytes } if pixel_bytes == bytes => process.pixels(pixel_bytes),
            other => Err(nonsense(&other)),
        })
    }

    /// Some frames of a file, at a size.
    pub fn frames(&mut self, file: &Bytes, short_side: u32, which: Which) -> Result<Frames, Fault> {
        let what = What::Frames { short_side, which };
        self.tried(file, &what, &|process, reply| match reply {
            Reply::Frames { width, height, source_frames, indices } => {
                let bytes =
                    [width, height, 3].into_iter().map(u64::from).fold(indices.len() as u64, u64::saturating_mul);
                let pixels = process.pixels(bytes)?;
                Frames::from_parts((width, height), (source_frames, indices), pixels)
                    .ok_or_else(|| Death::Nonsense("with frames that can't be".to_owned()))
            }
            other => Err(nonsense(&other)),
        })
    }

    /// Decodes all of a file, and says what it is and how much of it is good.
    pub fn survey(&mut self, file: &Bytes) -> Result<(Description, Survey), Fault> {
        self.tried(file, &What::Survey, &|_, reply| match reply {
            Reply::Surveyed(description, survey) => Ok((*description, survey)),
            other => Err(nonsense(&other)),
        })
    }

    /// All views of a file, handed out as they come until told to stop; before them what the file is. A decoder that is
    /// lost on the way is not asked again: some views have been handed out.
    pub fn views(
        &mut self,
        file: &Bytes,
        config: &ViewConfig,
        (meet, hand): (Sink<Facts>, Sink<ViewPixels>),
    ) -> Result<(), Fault> {
        let deadline = self.settings.deadline(file.len());
        let mut reply = self.asked(file, &What::Views(*config), deadline)?;
        loop {
            let process = self.process()?;
            let told = match reply {
                Reply::Broken(error) => return Err(error.into()),
                Reply::Done => return Ok(()),
                Reply::Facts(facts) if facts.source_frames > 0 => Ok(meet(facts)),
                Reply::View { view, indices, pixel_bytes } if pixel_bytes == config.view_bytes() => {
                    process.pixels(pixel_bytes).map(|pixels_nthwc| hand(ViewPixels { view, indices, pixels_nthwc }))
                }
                other => Err(nonsense(&other)),
            };
            let next = told.and_then(|told| match told {
                ControlFlow::Break(()) => process.say(&Request::Enough).map(|()| None),
                ControlFlow::Continue(()) => {
                    process.say(&Request::Next).and_then(|()| process.hear(deadline)).map(Some)
                }
            });
            reply = match next {
                Ok(Some(reply)) => reply,
                Ok(None) => return Ok(()),
                Err(death) => return Err(self.lost(death).into()),
            };
        }
    }

    /// One answer to one question, on a second process if the first is lost over it.
    fn tried<T>(
        &mut self,
        file: &Bytes,
        what: &What,
        take: &dyn Fn(&mut Process, Reply) -> Result<T, Death>,
    ) -> Result<T, Fault> {
        let deadline = self.settings.deadline(file.len());
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match self.asked(file, what, deadline) {
                Ok(Reply::Broken(error)) => return Err(error.into()),
                Ok(reply) => take(self.process()?, reply).map_err(|death| self.lost(death)),
                Err(Fault::Died(death)) => Err(death),
                Err(fault) => return Err(fault),
            };
            match outcome {
                Err(death) if tries < TRIES => tracing::warn!("a clip is decoded again: {death}"),
                Err(death) => return Err(death.into()),
                Ok(taken) => return Ok(taken),
            }
        }
    }

    /// The first answer to a question.
    fn asked(&mut self, file: &Bytes, what: &What, deadline: Duration) -> Result<Reply, Fault> {
        let outcome = self.process()?.ask(file, what, deadline);
        outcome.map_err(|death| self.lost(death).into())
    }

    /// The process that runs, or a new one.
    fn process(&mut self) -> Result<&mut Process, Fault> {
        let running = match self.running.take() {
            Some(running) => running,
            None => Process::start(&self.settings)
                .map_err(|reason| Fault::NoDecoder { program: self.settings.program.display().to_string(), reason })?,
        };
        Ok(self.running.insert(running))
    }

    /// Ends the process and says how it ended.
    fn lost(&mut self, death: Death) -> Death {
        self.lost += 1;
        match (self.running.take(), death) {
            (Some(mut process), Death::Ended(_)) => Death::Ended(process.end()),
            (_, death) => death,
        }
    }
}

/// A child and the two things that it shares with this process. Dropping it kills it.
struct Process {
    child: Child,
    socket: UnixStream,
    memory: Memory,
    memory_bytes: u64,
}

impl Process {
    fn start(settings: &Settings) -> Result<Self, String> {
        let mut process = Self::spawn(settings).map_err(|error| error.to_string())?;
        match process.hear(START_DEADLINE) {
            Ok(Reply::Ready) => Ok(process),
            Ok(other) => Err(nonsense(&other).to_string()),
            Err(Death::Ended(_)) => Err(Death::Ended(process.end()).to_string()),
            Err(death) => Err(death.to_string()),
        }
    }

    fn spawn(settings: &Settings) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let memory = File::from(memfd_create("clip", MemfdFlags::CLOEXEC)?);
        let child = Command::new(&settings.program)
            .arg0("dataloader")
            .args(["decode-child", "--memory-bytes", &settings.memory_bytes.to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(memory.try_clone()?))
            // Ctrl-C in the terminal is for the loader, which still answers what was asked.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket, memory: Memory::new(memory), memory_bytes: settings.memory_bytes })
    }

    fn ask(&mut self, file: &Bytes, what: &What, deadline: Duration) -> Result<Reply, Death> {
        // Our own memory: if it is full, so are all decoders.
        self.memory.put_file(file).map_err(|error| Death::Ended(error.to_string()))?;
        self.say(&Request::Show { file_bytes: file.len() as u64, what: what.clone() })?;
        self.hear(deadline)
    }

    fn say(&mut self, request: &Request) -> Result<(), Death> {
        send(&self.socket, request).map_err(|error| Death::Ended(error.to_string()))
    }

    fn hear(&mut self, deadline: Duration) -> Result<Reply, Death> {
        let until = Instant::now() + deadline;
        match receive(Until { socket: &self.socket, until }) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Death::Ended(String::new())),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::TimedOut => Death::Late(deadline),
                io::ErrorKind::InvalidData => Death::Nonsense(error.to_string()),
                _ => Death::Ended(error.to_string()),
            }),
        }
    }

    fn pixels(&mut self, bytes: u64) -> Result<Vec<u8>, Death> {
        // It can't have made more than it may have, whatever it says.
        if bytes > self.memory_bytes {
            return Err(Death::Nonsense(format!("with {bytes} bytes of pixels")));
        }
        self.memory.get(bytes).map_err(|error| Death::Nonsense(error.to_string()))
    }

    /// Waits for its end, which it is helped to, and says how it ended.
    fn end(&mut self) -> String {
        // An error means that it has ended already: how it did so stays.
        let _ = self.child.kill();
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return error.to_string(),
        };
        match status.signal() {
            Some(ABORTED) => format!("{status}, as it does when it may have no more memory (--decode-memory-mib)"),
            _ => status.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn nonsense(reply: &Reply) -> Death {
    Death::Nonsense(format!("{reply:?}").chars().take(80).collect())
}

/// A socket whose reads end at a time, however little comes at once.
struct Until<'a> {
    socket: &'a UnixStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut socket = self.socket;
        match socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            read => read,
        }
    }
}
