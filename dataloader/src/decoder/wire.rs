//! What a loader and its decoder say to each other: short messages over a socket, everything long through one piece of
//! memory that both have open.
//!
//! That memory is read and written with system calls and never mapped: a decoder that shortens or rewrites it makes a
//! read fail or a picture wrong, but can't bring the loader down.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use clips::decode::Survey;
use clips::index::Description;
use clips::{DataConfig, VideoError, ViewConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message: the numbers of all frames of the longest video.
const MAX_MESSAGE_BYTES: u32 = 8 << 20;
/// Memory that stays for the next clip. What a larger one took is given back.
const KEEP_BYTES: u64 = 32 << 20;

/// What a decoder is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Show the file that lies in the memory.
    Show {
        /// Its length.
        file_bytes: u64,
        /// What of it.
        what: What,
    },
    /// After each [`Reply::View`]: it is read, here is room for the next one.
    Next,
    /// Instead of that: no more of this file.
    Enough,
}

/// What is wanted of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum What {
    /// A position's view of it: one [`Reply::Clip`].
    Clip {
        /// Says what is shown.
        data: Box<DataConfig>,
        /// The position's random stream; none for validation.
        augment_seed: Option<u64>,
    },
    /// The frames that views are cut from: one [`Reply::Frames`].
    Frames {
        /// At which size.
        short_side: u32,
        /// Which of them.
        which: Which,
    },
    /// Whether all of it can be decoded: one [`Reply::Surveyed`].
    Survey,
    /// All views of a test: one [`Reply::Facts`], then a [`Reply::View`] each.
    Views(ViewConfig),
}

/// Some frames of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Which {
    /// All of them.
    All,
    /// Those of the view that a position asks for: its seed in training, none for validation.
    Shown(Box<DataConfig>, Option<u64>),
    /// So many, all over the video.
    Spread(u32),
}

/// What a decoder answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It has started.
    Ready,
    /// The clip's pixels lie in the memory.
    Clip {
        /// How many bytes.
        pixel_bytes: u64,
    },
    /// The frames' pixels lie in the memory, one frame after the other.
    Frames {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Frames that the source has.
        source_frames: u32,
        /// Which of them are here.
        indices: Vec<u32>,
    },
    /// What the file is.
    Facts(Facts),
    /// All of it was decoded.
    Surveyed(Box<Description>, Survey),
    /// A view's pixels lie in the memory.
    View {
        /// Its place among the views.
        view: u32,
        /// Source frames that it shows.
        indices: Vec<u32>,
        /// How many bytes.
        pixel_bytes: u64,
    },
    /// All views were sent.
    Done,
    /// The file is no usable video.
    Broken(VideoError),
}

/// A video, before any of it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Frames that it has.
    pub source_frames: u32,
    /// Frames a second, if it says so.
    pub fps: Option<f64>,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Sends one message.
pub fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)
}

/// Receives one message; none where the other end has closed before it began.
pub fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message)?;
    Ok(Some(serde_json::from_slice(&message)?))
}

/// The memory that both ends have open.
pub struct Memory(File);

impl Memory {
    /// Over an open piece of memory.
    pub fn new(file: File) -> Self {
        Self(file)
    }

    /// Puts a file where the decoder finds it. The one place where a clip's bytes enter.
    pub fn put_file(&self, file: &Bytes) -> io::Result<()> {
        self.put(file)
    }

    /// Puts bytes at its beginning.
    pub fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, 0)
    }

    /// The bytes at its beginning.
    pub fn get(&self, length: u64) -> io::Result<Vec<u8>> {
        // Before room is made for them: whoever says how many there are may lie.
        let held = self.0.metadata()?.len();
        if length > held {
            let lie = format!("of {length} bytes where {held} are");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, lie));
        }
        let mut bytes = vec![0; length as usize];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Gives back what a large clip took.
    pub fn shrink(&self) -> io::Result<()> {
        if self.0.metadata()?.len() > KEEP_BYTES { self.0.set_len(0) } else { Ok(()) }
    }
}
