//! From a video file in memory to the wanted frames, scaled, as RGB24.
//!
//! A file is read through once without decoding, which gives every frame's timestamp and place; so frame `i` is the
//! `i`-th in order of presentation, exact for reordered frames and edit lists, without trusting the header; where frames
//! last unequally long, the one that is on screen at step `i` of the video's time (`timeline.rs`). Decoding then starts at the last key frame before the first wanted frame and stops after the last;
//! unwanted frames that no other frame refers to are skipped (the pixels of the others do not change by it).
//!
//! Never panics and never trusts a header with memory: dimensions, frame counts and single allocations are bounded.

mod compact;
mod demux;
mod outline;
mod parameters;
mod pass;
mod scale;
mod sniff;
mod stream;
mod timeline;
mod upright;

use std::collections::BTreeSet;

use bytes::Bytes;
use ffmpeg_next::codec;
use serde::{Deserialize, Serialize};

use crate::VideoError;
use demux::Probing;
pub use outline::{Group, Need, Outline};
pub use scale::Scaler;
pub use stream::FrameSink;
use upright::Upright;

/// A video file whose frames are known but not decoded.
pub struct Video {
    packets: Vec<codec::packet::Packet>,
    parameters: codec::Parameters,
    order: Order,
    /// Where frames last unequally long: the one that is on screen at each step of time.
    timeline: Option<Vec<u32>>,
    upright: Upright,
    /// As displayed.
    width: u32,
    height: u32,
    /// Frames a second, if the container says so.
    fps: Option<f64>,
    /// The container's name; empty for an excerpt, which has left it.
    container: String,
    /// Only some packets are here.
    is_excerpt: bool,
}

/// How frames are told apart.
enum Order {
    /// By the timestamp of each frame, ascending.
    Stamped(Vec<i64>),
    /// The container has none (some AVI files): by counting what the decoder delivers.
    Counted(u32),
}

/// Some decoded frames of a clip, all of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames that the whole source has.
    pub source_frames: u32,
    /// Which of them are here, ascending.
    indices: Vec<u32>,
    /// Their pixels, thwc.
    pixels: Vec<u8>,
}

/// What a full decode found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Frames that the file lists.
    pub frames: u32,
    /// Frames that came out without a decoding error.
    pub good: u32,
}

impl Video {
    /// Reads the structure of a file, or of an excerpt of one ([`Outline::excerpt`]). No frame is decoded, except by the
    /// demuxer's own probing where the container does not say enough.
    pub fn open(bytes: Bytes) -> Result<Self, VideoError> {
        Self::opened(bytes, Probing::WhereNeeded)
    }

    /// The same, and learns what only decoding tells, such as [`Video::pixel_format`]: for an index.
    pub fn examine(bytes: Bytes) -> Result<Self, VideoError> {
        Self::opened(bytes, Probing::Always)
    }

    fn opened(bytes: Bytes, probing: Probing) -> Result<Self, VideoError> {
        sniff::check(&bytes)?;
        let is_excerpt = bytes.starts_with(outline::MAGIC);
        let mut video = if is_excerpt { outline::open(&bytes)? } else { demux::open(bytes, probing)? };
        if let Order::Counted(count) = &mut video.order {
            *count = 0;
            video.order = Order::Counted(video.survey()?.frames);
        }
        if video.frame_count() == 0 {
            return Err(VideoError::NoFrames);
        }
        if let Order::Stamped(stamps) = &video.order {
            video.timeline = timeline::frames_of_steps(stamps);
        }
        Ok(video)
    }

    /// Frames that the video has, and steps that its time is counted in.
    pub fn frame_count(&self) -> u32 {
        match &self.order {
            Order::Stamped(stamps) => stamps.len() as u32,
            Order::Counted(count) => *count,
        }
    }

    /// Pixels a row, upright, before scaling.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows, upright, before scaling.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Frames a second on average, if the container says so.
    pub fn fps(&self) -> Option<f64> {
        self.fps
    }

    /// Name of the container.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Name of the codec.
    pub fn codec(&self) -> &'static str {
        self.parameters.id().name()
    }

    /// Name of the format of its pixels, as far as the container knows; empty if it does not.
    pub fn pixel_format(&self) -> String {
        parameters::pixel_format(&self.parameters)
    }

    /// Decodes the wanted frames (in any order, repeats allowed), scaled so that the short side is `short_side`.
    ///
    /// A frame that the decoder leaves out is shown as a player would show it: the one before stays.
    ///
    /// # Panics
    /// If a wanted frame is not below [`Video::frame_count`].
    pub fn decode(&self, wanted: &[u32], short_side: u32, scaler: &mut Scaler) -> Result<Frames, VideoError> {
        let wanted: BTreeSet<u32> = wanted.iter().copied().collect();
        assert!(wanted.last().is_none_or(|&last| last < self.frame_count()), "wanted frames exist");
        let (width, height) = scaled_size(self.width, self.height, short_side);
        // Several steps may show one frame, which is decoded once.
        let numbers: BTreeSet<u32> = wanted.iter().map(|&step| self.frame_at(step)).collect();
        let mut frames = Frames {
            width,
            height,
            source_frames: self.frame_count(),
            pixels: Vec::with_capacity(numbers.len() * frame_bytes(width, height)),
            indices: numbers.into_iter().collect(),
        };
        match &self.order {
            Order::Stamped(stamps) => self.decode_stamped(stamps, &mut frames, scaler)?,
            Order::Counted(_) => self.decode_counted(&mut frames, scaler)?,
        }
        Ok(if self.timeline.is_none() { frames } else { self.in_steps(frames, wanted) })
    }

    /// The frame that is on screen at a step.
    fn frame_at(&self, step: u32) -> u32 {
        self.timeline.as_ref().map_or(step, |frames| frames[step as usize])
    }

    /// Decoded frames, each as often as a wanted step shows it.
    fn in_steps(&self, frames: Frames, wanted: BTreeSet<u32>) -> Frames {
        let picture = |step: &u32| frames.picture(self.frame_at(*step)).expect("all frames that are shown are decoded");
        let pixels = wanted.iter().flat_map(picture).copied().collect();
        Frames { indices: wanted.into_iter().collect(), pixels, ..frames }
    }
}

impl Frames {
    /// Frames that were decoded elsewhere: their size, how many the source has and which of them are here, their pixels.
    /// None if these do not fit together.
    pub fn from_parts(
        (width, height): (u32, u32),
        (source_frames, indices): (u32, Vec<u32>),
        pixels: Vec<u8>,
    ) -> Option<Self> {
        let ascends = indices.windows(2).all(|pair| pair[0] < pair[1]);
        let exist = indices.last().is_some_and(|&last| last < source_frames);
        let fits = frame_bytes(width, height).checked_mul(indices.len()) == Some(pixels.len());
        (ascends && exist && fits).then_some(Self { width, height, source_frames, indices, pixels })
    }

    /// All frames of a source, given as hwc pictures of one size.
    #[cfg(test)]
    pub(crate) fn of_pictures((width, height): (u32, u32), pictures: Vec<Vec<u8>>) -> Self {
        let source_frames = pictures.len() as u32;
        Self { width, height, source_frames, indices: (0..source_frames).collect(), pixels: pictures.concat() }
    }

    /// The pixels (hwc) of source frame `index`, if it is here.
    pub fn picture(&self, index: u32) -> Option<&[u8]> {
        let place = self.indices.binary_search(&index).ok()?;
        let size = frame_bytes(self.width, self.height);
        Some(&self.pixels[place * size..(place + 1) * size])
    }

    /// Which source frames are here, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Their pixels, thwc.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Memory that the pixels take.
    pub fn len_bytes(&self) -> usize {
        self.pixels.len()
    }
}

/// Bytes of one RGB24 frame.
pub fn frame_bytes(width: u32, height: u32) -> usize {
    width as usize * height as usize * 3
}

/// The size with `short_side` pixels on the shorter side and the same shape, rounded to the nearest pixel.
pub fn scaled_size(width: u32, height: u32, short_side: u32) -> (u32, u32) {
    let scale = |long: u32, short: u32| {
        let exact = (2 * u64::from(long) * u64::from(short_side) + u64::from(short)) / (2 * u64::from(short));
        u32::try_from(exact).unwrap_or(u32::MAX).max(short_side)
    };
    if width >= height { (scale(width, height), short_side) } else { (short_side, scale(height, width)) }
}

#[cfg(test)]
mod tests;
