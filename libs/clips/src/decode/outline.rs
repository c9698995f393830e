//! All that is needed to decode any part of a video without its container: the decoder's parameters, and of each packet
//! where it lies in the file, when it is shown and what depends on it.
//!
//! Packets are read and checked in **groups**: one begins with each key frame, and after [`GROUP_PACKETS`] packets. The
//! demuxer sees a file once, when it is packed. From then on a loader knows which bytes a view needs before it has any of
//! them, and nothing is probed.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use ffmpeg_next::codec;
use ffmpeg_next::codec::packet::{Flags, Packet};
use ffmpeg_next::ffi;

use super::compact::{self, Reader};
use super::demux::{check_size, is_shown};
use super::upright::Upright;
use super::{Order, Video, parameters, timeline};
use crate::VideoError;

/// Most packets of a group: videos with a key frame every ten seconds can be read in parts, too.
const GROUP_PACKETS: usize = 32;
/// A packet's content begins this soon behind the place that the demuxer gives: headers of blocks are between.
const HEADER_BYTES: usize = 64;
/// What an excerpt begins with. No container begins with a zero byte and then text.
pub(super) const MAGIC: &[u8; 8] = b"\0excerpt";

/// Which bits say what of a packet.
const KEY: u8 = 1;
const HIDDEN: u8 = 2;

/// What must be known of a packet to tell which ones a frame needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) pts: Option<i64>,
    pub(super) is_key: bool,
    pub(super) is_shown: bool,
}

impl Mark {
    pub(super) fn of(packet: &Packet) -> Self {
        Self { pts: packet.pts(), is_key: packet.is_key(), is_shown: is_shown(packet) }
    }
}

/// The packets between the last key frame that starts no later than the first wanted frame, and the last wanted one.
pub(super) fn needed(marks: &[Mark], wanted: &[i64]) -> Range<usize> {
    let is_wanted = |mark: &Mark| mark.is_shown && mark.pts.is_some_and(|pts| wanted.binary_search(&pts).is_ok());
    let Some(first) = marks.iter().position(is_wanted) else { return 0..0 };
    let last = marks.iter().rposition(is_wanted).unwrap_or(first);
    let starts_before = |mark: &Mark| mark.is_key && mark.pts.is_some_and(|pts| pts <= wanted[0]);
    let key = marks[..=first].iter().rposition(starts_before).unwrap_or(0);
    key..last + 1
}

/// A packet in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset_bytes: u64,
    length_bytes: u32,
    mark: Mark,
}

/// Packets that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    packets: Range<usize>,
    /// From its first byte in the file to its last. Sound may lie between.
    pub range_bytes: Range<u64>,
    /// Checksum of these bytes.
    pub crc32c: u32,
}

/// A video without its content.
pub struct Outline {
    parameters: codec::Parameters,
    upright: Upright,
    fps: Option<f64>,
    entries: Vec<Entry>,
    groups: Vec<Group>,
}

/// What some frames need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    packets: Range<usize>,
    /// The groups that must be read.
    pub groups: Range<usize>,
}

impl Outline {
    /// The outline of a video; none if its packets don't lie in the file as the decoder wants them, one after the other.
    pub fn of(video: &Video, file: &[u8]) -> Option<Self> {
        let Order::Stamped(_) = &video.order else { return None };
        let entries: Vec<Entry> = video.packets.iter().map(|packet| entry(packet, file)).collect::<Option<_>>()?;
        let groups = group(&entries, |range| Some(crc32c::crc32c(&file[range.start as usize..range.end as usize])))?;
        let parameters = video.parameters.clone();
        Some(Self { parameters, upright: video.upright, fps: video.fps, entries, groups })
    }

    /// The outline as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        parameters::put(&mut out, &self.parameters);
        out.push(self.upright.to_bits());
        out.extend_from_slice(&self.fps.unwrap_or(0.0).to_le_bytes());
        compact::put(&mut out, self.entries.len() as u64);
        // By column: what is alike lies side by side, and packs well.
        self.entries.iter().for_each(|entry| out.push(bits(entry.mark)));
        self.entries.iter().for_each(|entry| compact::put(&mut out, entry.length_bytes.into()));
        let mut end = 0;
        for entry in &self.entries {
            compact::put_signed(&mut out, entry.offset_bytes.wrapping_sub(end) as i64);
            end = entry.offset_bytes + u64::from(entry.length_bytes);
        }
        put_stamps(&mut out, self.entries.iter().filter_map(|entry| entry.mark.pts));
        self.groups.iter().for_each(|group| out.extend_from_slice(&group.crc32c.to_le_bytes()));
        out
    }

    /// Reads what [`Outline::to_bytes`] wrote; none if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let parameters = parameters::take(&mut from)?;
        let upright = Upright::of_bits(from.take(1)?[0]);
        let fps = f64::from_le_bytes(from.take(8)?.try_into().ok()?);
        let count = from.fits::<usize>()?;
        let marks = from.take(count)?;
        let lengths: Vec<u32> = (0..count).map(|_| from.fits().filter(|&length| length > 0)).collect::<Option<_>>()?;
        let mut offsets = Vec::with_capacity(count);
        let mut end = 0_u64;
        for &length_bytes in &lengths {
            let offset_bytes = end.checked_add_signed(from.signed()?)?;
            end = offset_bytes.checked_add(length_bytes.into())?;
            offsets.push(offset_bytes);
        }
        let stamps = take_stamps(&mut from, count)?;
        let entries: Vec<Entry> = (0..count)
            .map(|n| {
                let (is_key, is_shown) = (marks[n] & KEY != 0, marks[n] & HIDDEN == 0);
                let mark = Mark { pts: Some(stamps[n]), is_key, is_shown };
                Entry { offset_bytes: offsets[n], length_bytes: lengths[n], mark }
            })
            .collect();
        let groups = group(&entries, |_| Some(u32::from_le_bytes(from.take(4)?.try_into().ok()?)))?;
        let fps = (fps.is_finite() && fps > 0.0).then_some(fps);
        let outline = Self { parameters, upright, fps, entries, groups };
        (from.0.is_empty() && outline.frame_count() > 0).then_some(outline)
    }

    /// Frames that the video has.
    pub fn frame_count(&self) -> u32 {
        self.entries.iter().filter(|entry| entry.mark.is_shown).count() as u32
    }

    /// The parts in which the video can be read.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// What must be read for some frames (in any order, repeats allowed).
    ///
    /// # Panics
    /// If one of them is not below [`Outline::frame_count`].
    pub fn needed(&self, frames: &[u32]) -> Need {
        let stamps = self.stamps();
        let timeline = timeline::frames_of_steps(&stamps);
        let number = |step: u32| timeline.as_ref().map_or(step, |frames| frames[step as usize]);
        let wanted: BTreeSet<i64> = frames.iter().map(|&step| stamps[number(step) as usize]).collect();
        let packets = needed(&self.marks(), &Vec::from_iter(wanted));
        let is_touched = |group: &&Group| group.packets.start < packets.end && packets.start < group.packets.end;
        let first = self.groups.iter().take_while(|group| !is_touched(group)).count();
        let count = self.groups.iter().filter(is_touched).count();
        Need { packets, groups: first..first + count }
    }

    /// A file that [`Video::open`] reads, with the needed packets alone. `pieces` are the contents of the needed groups.
    ///
    /// # Panics
    /// If the pieces are not as many and as long as the groups.
    pub fn excerpt(&self, need: &Need, pieces: &[Bytes]) -> Bytes {
        let outline = self.to_bytes();
        let content: usize = pieces.iter().map(Bytes::len).sum();
        let mut out = Vec::with_capacity(outline.len() + content + 64);
        out.extend_from_slice(MAGIC);
        compact::put_bytes(&mut out, &outline);
        compact::put(&mut out, need.packets.start as u64);
        compact::put(&mut out, need.packets.end as u64);
        assert_eq!(pieces.len(), need.groups.len(), "each needed group is here");
        for (group, piece) in self.groups[need.groups.clone()].iter().zip(pieces) {
            assert_eq!(piece.len() as u64, group.length_bytes(), "each group is whole");
            out.extend_from_slice(piece);
        }
        out.into()
    }

    fn marks(&self) -> Vec<Mark> {
        self.entries.iter().map(|entry| entry.mark).collect()
    }

    /// Of the frames that are shown, ascending.
    fn stamps(&self) -> Vec<i64> {
        let shown = self.entries.iter().filter(|entry| entry.mark.is_shown);
        let mut stamps: Vec<i64> = shown.filter_map(|entry| entry.mark.pts).collect();
        stamps.sort_unstable();
        stamps
    }
}

impl Group {
    /// How many bytes are read.
    pub fn length_bytes(&self) -> u64 {
        self.range_bytes.end - self.range_bytes.start
    }
}

/// Opens what [`Outline::excerpt`] made. It may come from anywhere.
pub(super) fn open(file: &[u8]) -> Result<Video, VideoError> {
    let broken = || VideoError::Container { reason: "it is no excerpt of a video that is whole".to_owned() };
    let mut from = Reader(file.strip_prefix(MAGIC).ok_or_else(broken)?);
    let outline = from.bytes().and_then(Outline::parse).ok_or_else(broken)?;
    let packets = packets(&outline, &mut from).ok_or_else(broken)?;
    // SAFETY: the pointer is valid as long as the parameters, and both fields are plain integers.
    let size = unsafe { ((*outline.parameters.as_ptr()).width, (*outline.parameters.as_ptr()).height) };
    let (width, height) = outline.upright.size(check_size(size.0, size.1)?);
    let order = Order::Stamped(outline.stamps());
    let Outline { parameters, upright, fps, .. } = outline;
    let container = String::new();
    Ok(Video { order, timeline: None, packets, parameters, upright, width, height, fps, container, is_excerpt: true })
}

fn packets(outline: &Outline, from: &mut Reader) -> Option<Vec<Packet>> {
    let wanted = from.fits::<usize>()?..from.fits::<usize>()?;
    if wanted.end > outline.entries.len() {
        return None;
    }
    let mut packets = Vec::with_capacity(wanted.len());
    for group in &outline.groups {
        let inside = group.packets.start.max(wanted.start)..group.packets.end.min(wanted.end);
        if inside.is_empty() {
            continue;
        }
        let content = from.take(usize::try_from(group.length_bytes()).ok()?)?;
        for entry in &outline.entries[inside] {
            let start = (entry.offset_bytes - group.range_bytes.start) as usize;
            let mut packet = Packet::copy(&content[start..start + entry.length_bytes as usize]);
            packet.set_pts(entry.mark.pts);
            packet.set_flags(flags(entry.mark));
            packets.push(packet);
        }
    }
    from.0.is_empty().then_some(packets)
}

/// Where a packet lies; none if it does not lie there as it is, or comes with more than its bytes.
fn entry(packet: &Packet, file: &[u8]) -> Option<Entry> {
    let (content, near) = (packet.data()?, usize::try_from(packet.position()).ok()?);
    let offset =
        (near..near + HEADER_BYTES).find(|&at| file.get(at..).is_some_and(|rest| rest.starts_with(content)))?;
    packet.pts()?;
    let plain = packet.side_data().next().is_none();
    let length_bytes = u32::try_from(content.len()).ok()?;
    plain.then_some(Entry { offset_bytes: offset as u64, length_bytes, mark: Mark::of(packet) })
}

/// Cuts packets into groups. None if groups would overlap, or one has no checksum.
fn group(entries: &[Entry], mut checksum: impl FnMut(&Range<u64>) -> Option<u32>) -> Option<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut start = 0;
    while start < entries.len() {
        let goes_on = |entry: &&Entry| !entry.mark.is_key;
        let end = start + 1 + entries[start + 1..].iter().take(GROUP_PACKETS - 1).take_while(goes_on).count();
        let packets = &entries[start..end];
        let first = packets.iter().map(|entry| entry.offset_bytes).min()?;
        let last = packets.iter().map(|entry| entry.offset_bytes + u64::from(entry.length_bytes)).max()?;
        if groups.last().is_some_and(|before| before.range_bytes.end > first) {
            return None;
        }
        let range_bytes = first..last;
        groups.push(Group { packets: start..end, crc32c: checksum(&range_bytes)?, range_bytes });
        start = end;
    }
    Some(groups)
}

fn bits(mark: Mark) -> u8 {
    (u8::from(mark.is_key) * KEY) | (u8::from(!mark.is_shown) * HIDDEN)
}

fn flags(mark: Mark) -> Flags {
    let hidden = if mark.is_shown { 0 } else { ffi::AV_PKT_FLAG_DISCARD };
    let key = if mark.is_key { Flags::KEY } else { Flags::empty() };
    key | Flags::from_bits_retain(hidden)
}

/// Timestamps as steps of their largest common measure, mostly one byte each.
fn put_stamps(out: &mut Vec<u8>, stamps: impl Iterator<Item = i64>) {
    let stamps: Vec<i64> = stamps.collect();
    let steps: Vec<i64> = stamps.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let measure = steps.iter().fold(0, |measure, step| common(measure, step.unsigned_abs())).max(1);
    compact::put_signed(out, stamps.first().copied().unwrap_or(0));
    compact::put(out, measure);
    for step in steps {
        let parts = (step.unsigned_abs() / measure) as i64;
        compact::put_signed(out, if step < 0 { parts.wrapping_neg() } else { parts });
    }
}

fn take_stamps(from: &mut Reader, count: usize) -> Option<Vec<i64>> {
    let (mut stamp, measure) = (from.signed()?, from.number()? as i64);
    let mut stamps = Vec::with_capacity(count);
    for n in 0..count {
        if n > 0 {
            stamp = stamp.wrapping_add(from.signed()?.wrapping_mul(measure));
        }
        stamps.push(stamp);
    }
    Some(stamps)
}

/// The largest number that divides both.
fn common(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common(b, a % b) }
}
