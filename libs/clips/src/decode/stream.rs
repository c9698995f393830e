//! Frames handed out one by one as they are decoded, for videos of any length.

use std::iter::{Copied, Peekable};
use std::ops::ControlFlow;
use std::slice::Iter;

use bytes::Bytes;
use ffmpeg_next::{self as ffmpeg, frame};

use super::{Frames, Order, Scaler, Video};
use crate::VideoError;

/// Receives the number and the pixels (hwc) of a frame, and says whether more are wanted.
pub type FrameSink<'a> = &'a mut dyn FnMut(u32, Bytes) -> ControlFlow<()>;

impl Video {
    /// Decodes the wanted frames (ascending, without repeats) once and hands out each as it comes, scaled to `size`,
    /// until told to stop. Keeps nothing.
    ///
    /// A frame that the decoder leaves out is shown as the last one that came; at the very start, as the first.
    ///
    /// # Errors
    /// If nothing at all can be decoded, or scaled.
    pub fn stream(
        &self,
        wanted: &[u32],
        size: (u32, u32),
        (scaler, sink): (&mut Scaler, FrameSink),
    ) -> Result<(), VideoError> {
        if self.timeline.is_none() {
            return self.stream_frames(wanted, size, (scaler, sink));
        }
        let mut numbers: Vec<u32> = wanted.iter().map(|&step| self.frame_at(step)).collect();
        numbers.dedup();
        let mut due = wanted.iter().copied().peekable();
        let mut in_steps = |number, picture: Bytes| {
            while let Some(step) = due.next_if(|&step| self.frame_at(step) == number) {
                sink(step, picture.clone())?;
            }
            ControlFlow::Continue(())
        };
        self.stream_frames(&numbers, size, (scaler, &mut in_steps))
    }

    /// The same, by the frames' own numbers.
    fn stream_frames(
        &self,
        wanted: &[u32],
        size: (u32, u32),
        (scaler, sink): (&mut Scaler, FrameSink),
    ) -> Result<(), VideoError> {
        let mut handout = Handout { due: wanted.iter().copied().peekable(), last: None, sink, is_stopped: false };
        let mut position = 0;
        let (range, stamps) = match &self.order {
            Order::Counted(_) => (0..self.packets.len(), None),
            Order::Stamped(all) => {
                let stamps: Vec<i64> = wanted.iter().map(|&index| all[index as usize]).collect();
                (self.needed(&stamps), Some(stamps))
            }
        };
        // Where frames are counted none may be skipped.
        let keep = |pts: i64| stamps.as_ref().is_none_or(|stamps| stamps.binary_search(&pts).is_ok());
        let fault = self.pass(range, &keep, &mut |frame| {
            let index = self.index_of(frame, position);
            position += 1;
            let Some(index) = index.filter(|&index| handout.is_due(index)) else {
                return Ok(ControlFlow::Continue(()));
            };
            let picture = self.picture(frame, size, scaler)?;
            Ok(handout.came(index, picture))
        })?;
        handout.finish(fault, self.frame_count())
    }

    /// Which source frame a decoded one is, being the `position`-th that came.
    fn index_of(&self, frame: &frame::Video, position: u32) -> Option<u32> {
        match &self.order {
            Order::Counted(_) => Some(position),
            Order::Stamped(stamps) => stamps.binary_search(&frame.pts()?).ok().map(|index| index as u32),
        }
    }

    fn picture(
        &self,
        frame: &frame::Video,
        (width, height): (u32, u32),
        scaler: &mut Scaler,
    ) -> Result<Bytes, VideoError> {
        let source_frames = self.frame_count();
        let mut single = Frames { width, height, source_frames, indices: Vec::new(), pixels: Vec::new() };
        scaler.append(frame, self.upright, &mut single)?;
        Ok(single.pixels.into())
    }
}

/// What is still to be handed out.
struct Handout<'a> {
    due: Peekable<Copied<Iter<'a, u32>>>,
    last: Option<Bytes>,
    sink: FrameSink<'a>,
    is_stopped: bool,
}

impl Handout<'_> {
    /// Whether frame `index`, or one before it that never came, is wanted.
    fn is_due(&mut self, index: u32) -> bool {
        self.due.peek().is_some_and(|due| *due <= index)
    }

    fn came(&mut self, index: u32, picture: Bytes) -> ControlFlow<()> {
        let before = self.last.replace(picture.clone()).unwrap_or_else(|| picture.clone());
        while let Some(missing) = self.due.next_if(|due| *due < index) {
            self.hand(missing, before.clone())?;
        }
        if self.due.next_if_eq(&index).is_some() {
            self.hand(index, picture)?;
        }
        // The rest of the file need not be decoded.
        if self.due.peek().is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn hand(&mut self, index: u32, picture: Bytes) -> ControlFlow<()> {
        let told = (self.sink)(index, picture);
        self.is_stopped = told.is_break();
        told
    }

    /// Frames behind the last that came are shown as that one.
    fn finish(mut self, fault: Option<ffmpeg::Error>, count: u32) -> Result<(), VideoError> {
        while !self.is_stopped
            && let Some(missing) = self.due.next()
        {
            let Some(last) = self.last.clone() else {
                let reason = fault.map_or("the decoder delivers nothing".to_owned(), |fault| fault.to_string());
                return Err(VideoError::Decode { frame: missing, count, reason });
            };
            // Whether more are wanted is noted.
            let _told = self.hand(missing, last);
        }
        Ok(())
    }
}
