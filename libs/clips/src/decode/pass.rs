//! Runs packets through a decoder.

use std::ops::{ControlFlow, Range};

use ffmpeg_next::codec::packet::Packet;
use ffmpeg_next::{self as ffmpeg, Dictionary, Discard, codec, decoder, frame};

use super::demux::MAX_PIXELS;
use super::outline::{Mark, needed};
use super::{Frames, Scaler, Survey, Video, parameters};
use crate::VideoError;

/// Receives each decoded frame and says whether more are wanted.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&frame::Video) -> Result<ControlFlow<()>, VideoError>;

impl Video {
    /// Decodes everything, keeps nothing: for packing and checking.
    pub fn survey(&self) -> Result<Survey, VideoError> {
        let mut survey = Survey { frames: 0, good: 0 };
        self.pass(0..self.packets.len(), &|_| true, &mut |frame| {
            survey.frames += 1;
            survey.good += u32::from(!frame.is_corrupt() && !frame.has_decode_errors());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Survey { frames: survey.frames.max(self.frame_count()), ..survey })
    }

    pub(super) fn decode_stamped(
        &self,
        stamps: &[i64],
        frames: &mut Frames,
        scaler: &mut Scaler,
    ) -> Result<(), VideoError> {
        let wanted: Vec<i64> = frames.indices.iter().map(|&i| stamps[i as usize]).collect();
        let mut next = 0;
        let fault = self.pass(self.needed(&wanted), &|pts| wanted.binary_search(&pts).is_ok(), &mut |frame| {
            if wanted.get(next).copied() == frame.pts() {
                scaler.append(frame, self.upright, frames)?;
                next += 1;
            }
            Ok(if next == wanted.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if next == wanted.len() {
            return Ok(());
        }
        if self.is_excerpt {
            return Err(VideoError::Excerpt { frame: frames.indices[next] });
        }
        frames.pixels.clear();
        self.decode_held(&wanted, fault, (frames, scaler))
    }

    /// The careful way, for files whose decoder leaves wanted frames out: everything is decoded, and the frame before
    /// stands for a missing one (at the very start, the first that comes).
    fn decode_held(
        &self,
        wanted: &[i64],
        fault: Option<ffmpeg::Error>,
        (frames, scaler): (&mut Frames, &mut Scaler),
    ) -> Result<(), VideoError> {
        let mut held: Option<Frames> = None;
        let mut next = 0;
        self.pass(0..self.packets.len(), &|_| true, &mut |frame| {
            let Some(stamp) = frame.pts() else { return Ok(ControlFlow::Continue(())) };
            while next < wanted.len() && wanted[next] < stamp && held.is_some() {
                frames.pixels.extend_from_slice(held.as_ref().map_or(&[], |held| &held.pixels));
                next += 1;
            }
            let mut single = Frames { pixels: Vec::new(), indices: Vec::new(), ..*frames };
            scaler.append(frame, self.upright, &mut single)?;
            held = Some(single);
            Ok(if next == wanted.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let Some(held) = held else {
            let reason = fault.map_or("the decoder delivers nothing".to_owned(), |fault| fault.to_string());
            return Err(VideoError::Decode { frame: frames.indices[0], count: frames.source_frames, reason });
        };
        for _ in next..wanted.len() {
            frames.pixels.extend_from_slice(&held.pixels);
        }
        Ok(())
    }

    pub(super) fn decode_counted(&self, frames: &mut Frames, scaler: &mut Scaler) -> Result<(), VideoError> {
        let (mut position, mut next) = (0, 0);
        let fault = self.pass(0..self.packets.len(), &|_| true, &mut |frame| {
            if frames.indices.get(next) == Some(&position) {
                scaler.append(frame, self.upright, frames)?;
                next += 1;
            }
            position += 1;
            Ok(if next == frames.indices.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        match frames.indices.get(next) {
            None => Ok(()),
            Some(&frame) => {
                let reason = fault.map_or("the video ends before it".to_owned(), |fault| fault.to_string());
                Err(VideoError::Decode { frame, count: frames.source_frames, reason })
            }
        }
    }

    /// The packets that some frames need, by their timestamps.
    pub(super) fn needed(&self, wanted: &[i64]) -> Range<usize> {
        needed(&Vec::from_iter(self.packets.iter().map(Mark::of)), wanted)
    }

    /// Decodes a range of packets. Unless `keep` says so of its timestamp, a frame that no other refers to is skipped.
    /// Returns the last fault of the decoder, which is harmless if all wanted frames came out.
    pub(super) fn pass(
        &self,
        range: Range<usize>,
        keep: &dyn Fn(i64) -> bool,
        sink: Sink,
    ) -> Result<Option<ffmpeg::Error>, VideoError> {
        let mut decoder = self.decoder()?;
        let mut frame = frame::Video::empty();
        let mut fault = None;
        let packets = &self.packets[range];
        let useful = self.useful(packets, keep);
        for (packet, _) in packets.iter().zip(useful).filter(|(_, is_useful)| *is_useful) {
            let wanted = packet.pts().is_none_or(keep);
            decoder.skip_frame(if wanted { Discard::Default } else { Discard::NonReference });
            if let Err(error) = decoder.send_packet(packet) {
                fault = Some(error);
                continue;
            }
            if drain(&mut decoder, &mut frame, sink)?.is_break() {
                return Ok(fault);
            }
        }
        if let Err(error) = decoder.send_eof() {
            fault = Some(error);
        }
        let _all_frames_are_out = drain(&mut decoder, &mut frame, sink)?;
        Ok(fault)
    }

    /// Of each packet, whether a wanted frame may need it. What lies behind the last wanted frame of a group of pictures
    /// is of no use if the next group needs nothing that was before it.
    pub(super) fn useful(&self, packets: &[Packet], keep: &dyn Fn(i64) -> bool) -> Vec<bool> {
        let mut is_useful = false;
        let backwards = packets.iter().rev().map(|packet| {
            is_useful |= packet.pts().is_none_or(keep);
            let useful = is_useful;
            is_useful &= !self.begins_anew(packet);
            useful
        });
        let mut useful: Vec<bool> = backwards.collect();
        useful.reverse();
        useful
    }

    /// Whether the decoder forgets all frames before this one: it is an IDR picture. Only known of H.264 in mp4 and mkv.
    fn begins_anew(&self, packet: &Packet) -> bool {
        /// Types of a NAL unit: a slice of a picture, the last of these of an IDR picture.
        const SLICES: std::ops::RangeInclusive<u8> = 1..=5;
        let header = parameters::extradata(&self.parameters);
        let (Some(1), Some(lengths), true) = (header.first(), header.get(4), packet.is_key()) else { return false };
        if self.parameters.id() != codec::Id::H264 {
            return false;
        }
        let length_bytes = usize::from(lengths & 3) + 1;
        let mut rest = packet.data().unwrap_or_default();
        while let Some((length, content)) = rest.split_at_checked(length_bytes) {
            let kind = content.first().map_or(0, |byte| byte & 31);
            if SLICES.contains(&kind) {
                return kind == *SLICES.end();
            }
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = content.get(length..).unwrap_or_default();
        }
        false
    }

    fn decoder(&self) -> Result<decoder::Video, VideoError> {
        let missing = || VideoError::NoDecoder { codec: self.parameters.id().name().to_owned() };
        let failed = |error: ffmpeg::Error| VideoError::Container { reason: format!("its codec can't start: {error}") };
        let codec = decoder::find(self.parameters.id()).ok_or_else(missing)?;
        let mut context = codec::Context::from_parameters(self.parameters.clone()).map_err(failed)?;
        // Clips are decoded side by side; threads within one would only fight for the same cores.
        context.set_threading(codec::threading::Config {
            kind: codec::threading::Type::None,
            count: 1,
            ..codec::threading::Config::default()
        });
        let mut options = Dictionary::new();
        options.set("max_pixels", &MAX_PIXELS.to_string());
        context.decoder().open_as_with(codec, options).and_then(decoder::Opened::video).map_err(failed)
    }
}

fn drain(decoder: &mut decoder::Video, frame: &mut frame::Video, sink: Sink) -> Result<ControlFlow<()>, VideoError> {
    while decoder.receive_frame(frame).is_ok() {
        if sink(frame)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
