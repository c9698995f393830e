//! Opens a file from memory and lists its video packets.

use std::io::Cursor;
use std::sync::Once;

use bytes::Bytes;
use ffmpeg_next::codec::packet::{Flags, Packet, Ref};
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{self as ffmpeg, Dictionary, Rational, ffi, format, media};

use super::{Order, Upright, Video};
use crate::VideoError;

/// Most pixels of a frame that is decoded: an 8K frame and a bit.
pub(super) const MAX_PIXELS: u64 = 40_000_000;
/// Longest side of a frame that is decoded.
const MAX_SIDE: u32 = 16_384;
/// Most packets of a video that is read.
const MAX_PACKETS: usize = 200_000;
/// Largest single block of memory that ffmpeg may ask for, bytes: a 40 Mpixel frame of the fattest format fits.
const MAX_BLOCK_BYTES: usize = 512 << 20;

/// Containers that are opened. Playlists (hls, concat, dash) are not among them: they name further files and hosts,
/// which a data set must not reach.
const CONTAINERS: &str =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,m4v,rm,mxf,gif";

/// Reads the whole file's structure.
pub(super) fn open(bytes: Bytes) -> Result<Video, VideoError> {
    prepare();
    let mut input = open_input(bytes)?;
    let stream = input.streams().best(media::Type::Video).ok_or(VideoError::NoVideoStream)?;
    // The cover of an album, not a film.
    if stream.disposition().contains(Disposition::ATTACHED_PIC) {
        return Err(VideoError::NoVideoStream);
    }
    let (index, listed) = (stream.index(), usize::try_from(stream.frames()).unwrap_or(0));
    // A copy: the stream's own parameters would keep the whole input alive.
    let parameters = stream.parameters().clone();
    // SAFETY: the pointer is valid as long as `parameters`, and both fields are plain integers.
    let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
    let upright = Upright::of(&stream);
    let (width, height) = upright.size(check_size(width, height)?);
    let fps = [stream.avg_frame_rate(), stream.rate()].into_iter().find_map(rate);
    let container = name_of(input.format().name());
    let packets = read_packets(&mut input, index)?;
    if packets.is_empty() {
        return Err(VideoError::NoFrames);
    }
    if packets.len() < listed {
        let what = format!("its header lists {listed} frames, but only {} are there", packets.len());
        return Err(VideoError::Truncated { what });
    }
    let order = order_of(&packets);
    Ok(Video { order, timeline: None, packets, parameters, upright, width, height, fps, container, is_excerpt: false })
}

/// A demuxer is named after all the containers that it reads: the one that is meant most often.
fn name_of(demuxer: &str) -> String {
    let name = if demuxer.split(',').any(|name| name == "mp4") { "mp4" } else { demuxer };
    name.split(',').next().unwrap_or(name).to_owned()
}

/// Once a process: quiet, because every fault is reported by us, and bounded in memory.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::init().expect("registers error texts, which can't fail");
        ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
        // SAFETY: sets one global number.
        unsafe { ffi::av_max_alloc(MAX_BLOCK_BYTES) };
    });
}

fn open_input(bytes: Bytes) -> Result<Input, VideoError> {
    let refused = |error: ffmpeg::Error| VideoError::Container { reason: error.to_string() };
    let io = StreamIo::from_read_seek(Cursor::new(bytes)).map_err(refused)?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", CONTAINERS);
    options.set("protocol_whitelist", "");
    format::input_from_stream(io, None, Some(options)).map_err(|error| match error {
        // The answer where nothing is recognised, and where what is recognised is not on the list.
        ffmpeg::Error::InvalidData | ffmpeg::Error::Other { errno: ffi::EINVAL } => VideoError::NotVideo,
        ffmpeg::Error::Eof => VideoError::Truncated { what: "it ends before its first frame".to_owned() },
        other => refused(other),
    })
}

pub(super) fn check_size(width: i32, height: i32) -> Result<(u32, u32), VideoError> {
    let (width, height) = (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(VideoError::Dimensions { width, height, max_pixels: MAX_PIXELS, max_side: MAX_SIDE });
    }
    Ok((width, height))
}

fn read_packets(input: &mut Input, stream: usize) -> Result<Vec<Packet>, VideoError> {
    let mut packets = Vec::new();
    loop {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => return whole(packets),
            Err(error) => return Err(VideoError::Container { reason: error.to_string() }),
        }
        // An empty packet would tell the decoder that the video is over.
        if packet.stream() != stream || packet.size() == 0 {
            continue;
        }
        if packets.len() == MAX_PACKETS {
            return Err(VideoError::TooLong { max: MAX_PACKETS });
        }
        packets.push(packet);
    }
}

/// Frames that are damaged on the way are concealed, as in recordings of broadcasts and where parts were joined; one that
/// is incomplete at the end shows that the rest is missing.
fn whole(packets: Vec<Packet>) -> Result<Vec<Packet>, VideoError> {
    match packets.last() {
        Some(last) if last.flags().contains(Flags::CORRUPT) => {
            Err(VideoError::Truncated { what: format!("frame {} is incomplete", packets.len() - 1) })
        }
        _ => Ok(packets),
    }
}

/// A rate as a number, if it is one.
fn rate(rate: Rational) -> Option<f64> {
    let fps = f64::from(rate.numerator()) / f64::from(rate.denominator());
    (fps.is_finite() && fps > 0.0).then_some(fps)
}

/// Frames by timestamp, if each that is shown has one of its own.
fn order_of(packets: &[Packet]) -> Order {
    let shown: Option<Vec<i64>> = packets.iter().filter(|packet| is_shown(packet)).map(Packet::pts).collect();
    let Some(mut stamps) = shown else { return Order::Counted(0) };
    stamps.sort_unstable();
    if stamps.windows(2).any(|pair| pair[0] == pair[1]) { Order::Counted(0) } else { Order::Stamped(stamps) }
}

/// False for frames that an edit list cuts away: they are decoded for others' sake only.
pub(super) fn is_shown(packet: &Packet) -> bool {
    // SAFETY: the pointer is valid as long as `packet`; `flags` is a plain integer.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD == 0 }
}
