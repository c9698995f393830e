//! The child's end: reads a file, answers with pixels, forgets both.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use bytes::Bytes;
use clips::index::Description;
use clips::{Frames, Scaler, Video, VideoError, ViewConfig};
use runtime::exit::Code;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::wire::{Facts, Memory, Reply, Request, What, Which, receive, send};

/// Serves the loader that started this process, until it closes the socket.
pub fn main(memory_bytes: u64) -> anyhow::Result<Code> {
    confine(memory_bytes).context("can't limit this process")?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let memory = Memory::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let mut child = Child { socket, memory, scaler: Scaler::default() };
    send(&child.socket, &Reply::Ready).context("this command is started by a loader, not by hand")?;
    while let Some(request) = receive(&child.socket).context("can't read from the loader")? {
        // What is left of a video whose reader went away answers nothing.
        let Request::Show { file_bytes, what } = request else { continue };
        child.show(file_bytes, what).context("can't answer the loader")?;
        child.memory.shrink()?;
    }
    Ok(Code::Done)
}

/// Nothing that a file makes this process do hurts the loader or the machine.
fn confine(memory_bytes: u64) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let at_most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Data, at_most(memory_bytes))?;
    setrlimit(Resource::Core, at_most(0))?;
    // Where the machine runs out of memory this process goes first. Not every container lets it say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

struct Child {
    socket: UnixStream,
    memory: Memory,
    scaler: Scaler,
}

impl Child {
    /// Answers one request. `Err` if the loader can't be answered any more.
    fn show(&mut self, file_bytes: u64, what: What) -> io::Result<()> {
        let file = Bytes::from(self.memory.get(file_bytes)?);
        match self.try_show(file, what) {
            Ok(sent) => sent,
            Err(error) => send(&self.socket, &Reply::Broken(error)),
        }
    }

    fn try_show(&mut self, file: Bytes, what: What) -> Result<io::Result<()>, VideoError> {
        match what {
            What::Clip { data, augment_seed } => {
                let pixels = clips::render(&data, file, augment_seed, &mut self.scaler)?;
                Ok(self.answer(&pixels, &Reply::Clip { pixel_bytes: pixels.len() as u64 }))
            }
            What::Frames { short_side, which } => {
                let frames = decode(file, short_side, (&which, &mut self.scaler))?;
                let Frames { width, height, source_frames, .. } = frames;
                let indices = frames.indices().to_vec();
                Ok(self.answer(frames.pixels(), &Reply::Frames { width, height, source_frames, indices }))
            }
            What::Survey => {
                let video = Video::examine(file.clone())?;
                let (survey, description) = (video.survey()?, Description::of(&video, &file));
                Ok(send(&self.socket, &Reply::Surveyed(Box::new(description), survey)))
            }
            What::Views(config) => self.views(file, &config),
        }
    }

    fn answer(&self, pixels: &[u8], reply: &Reply) -> io::Result<()> {
        self.memory.put(pixels)?;
        send(&self.socket, reply)
    }

    fn views(&mut self, file: Bytes, config: &ViewConfig) -> Result<io::Result<()>, VideoError> {
        let video = Video::open(file)?;
        let facts = facts(&video);
        if let Err(gone) = send(&self.socket, &Reply::Facts(facts)) {
            return Ok(Err(gone));
        }
        // The loader refuses the same, and asks for no more.
        let Ok(layout) = config.lay(facts.source_frames, facts.fps) else { return Ok(Ok(())) };
        let (socket, memory) = (&self.socket, &self.memory);
        let mut sent = go_on(socket);
        if matches!(sent, Ok(true)) {
            clips::show(&video, (config, &layout), &mut self.scaler, &mut |shown| {
                let pixel_bytes = shown.pixels_nthwc.len() as u64;
                let reply = Reply::View { view: shown.view, indices: shown.indices, pixel_bytes };
                let put = memory.put(&shown.pixels_nthwc).and_then(|()| send(socket, &reply));
                sent = put.and_then(|()| go_on(socket));
                if matches!(sent, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        Ok(sent.and_then(|wanted| if wanted { send(&self.socket, &Reply::Done) } else { Ok(()) }))
    }
}

fn facts(video: &Video) -> Facts {
    Facts { source_frames: video.frame_count(), fps: video.fps(), width: video.width(), height: video.height() }
}

/// Waits until there is room for the next view. False if no more are wanted.
fn go_on(socket: &UnixStream) -> io::Result<bool> {
    match receive(socket)? {
        Some(Request::Next) => Ok(true),
        Some(Request::Enough) => Ok(false),
        Some(Request::Show { .. }) | None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

fn decode(file: Bytes, short_side: u32, (which, scaler): (&Which, &mut Scaler)) -> Result<Frames, VideoError> {
    let video = Video::open(file)?;
    let count = video.frame_count();
    let wanted: Vec<u32> = match which {
        Which::All => (0..count).collect(),
        Which::Shown(data, seed) => clips::indices(data, &clips::wanted(data, *seed), count),
        // In the middle of as many equal parts.
        Which::Spread(parts) => (0..u64::from(*parts))
            .map(|part| ((2 * part + 1) * u64::from(count) / (2 * u64::from(*parts))) as u32)
            .collect(),
    };
    video.decode(&wanted, short_side, scaler)
}
