//! Opens a file from memory and lists its video packets.

use std::io::Cursor;
use std::ptr;
use std::sync::Once;

use bytes::Bytes;
use ffmpeg_next::codec::packet::{Flags, Packet, Ref};
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{self as ffmpeg, Dictionary, Rational, codec, ffi, media};

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

/// What is asked of FFmpeg beside the file's structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probing {
    /// To decode some frames, of sound too, and tell what they are.
    Always,
    /// The same, but only where the container leaves open what a decoder must know. It costs a tenth of a clip's time.
    WhereNeeded,
}

/// Reads the whole file's structure.
pub(super) fn open(bytes: Bytes, probing: Probing) -> Result<Video, VideoError> {
    prepare();
    let mut input = open_input(bytes.clone())?;
    let is_probed = probing == Probing::Always || !tells_all(&mut input);
    if is_probed {
        probe(&mut input)?;
    }
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
    let Some(packets) = read_packets(&mut input, (index, is_probed))? else {
        return open(bytes, Probing::Always);
    };
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
    let mut io = StreamIo::from_read_seek(Cursor::new(bytes)).map_err(refused)?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", CONTAINERS);
    options.set("protocol_whitelist", "");
    // SAFETY: a context that can't be opened is freed by FFmpeg, and so is the list of options by us; one that is open
    // belongs to the `Input`, with what it reads from.
    unsafe {
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(refused(ffmpeg::Error::Other { errno: ffi::ENOMEM }));
        }
        (*context).pb = io.as_mut_ptr();
        (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
        let mut options = options.disown();
        let opened = ffi::avformat_open_input(&mut context, ptr::null(), ptr::null_mut(), &mut options);
        drop(Dictionary::own(options));
        match opened {
            0.. => Ok(Input::wrap_with_custom_io(context, io)),
            error => Err(refused(error.into())),
        }
    }
}

/// Decodes some frames of each stream, so that all is known of it.
fn probe(input: &mut Input) -> Result<(), VideoError> {
    // SAFETY: the context is open and ours alone.
    match unsafe { ffi::avformat_find_stream_info(input.as_mut_ptr(), ptr::null_mut()) } {
        0.. => Ok(()),
        error => Err(refused(error.into())),
    }
}

/// Whether a file that was not probed is known well enough: mp4 with one video, H.264 with its headers in front, of a
/// known rate. Of such a file the order in which frames are shown stands in the container. Its other streams are passed over from then on.
fn tells_all(input: &mut Input) -> bool {
    let is_mp4 = input.format().name().split(',').any(|name| name == "mp4");
    let mut videos = input.streams().filter(|stream| stream.parameters().medium() == media::Type::Video);
    let (Some(video), None) = (videos.next(), videos.next()) else { return false };
    let (index, parameters) = (video.index(), video.parameters());
    // SAFETY: the pointer is valid as long as `parameters`, and all fields are plain numbers.
    let has_headers = unsafe { (*parameters.as_ptr()).extradata_size > 0 };
    let is_known =
        is_mp4 && parameters.id() == codec::Id::H264 && has_headers && rate(video.avg_frame_rate()).is_some();
    if is_known {
        for mut other in input.streams_mut().filter(|stream| stream.index() != index) {
            // SAFETY: the pointer is valid as long as `other`; the field is a plain number.
            unsafe { (*other.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
        }
    }
    is_known
}

/// Whether the stream, whose first packet was just read, has the size that its container says.
fn is_as_told(input: &Input, stream: usize) -> bool {
    let Some(stream) = input.stream(stream) else { return false };
    let parameters = stream.parameters();
    // SAFETY: the pointers are valid as long as `input`, the parser until the next packet is read; all fields are plain
    // numbers.
    unsafe {
        let parser = ffi::av_stream_get_parser(stream.as_ptr());
        let told = ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height);
        !parser.is_null() && ((*parser).width, (*parser).height) == told
    }
}

fn refused(error: ffmpeg::Error) -> VideoError {
    match error {
        // The answer where nothing is recognised, and where what is recognised is not on the list.
        ffmpeg::Error::InvalidData | ffmpeg::Error::Other { errno: ffi::EINVAL } => VideoError::NotVideo,
        ffmpeg::Error::Eof => VideoError::Truncated { what: "it ends before its first frame".to_owned() },
        other => VideoError::Container { reason: other.to_string() },
    }
}

pub(super) fn check_size(width: i32, height: i32) -> Result<(u32, u32), VideoError> {
    let (width, height) = (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(VideoError::Dimensions { width, height, max_pixels: MAX_PIXELS, max_side: MAX_SIDE });
    }
    Ok((width, height))
}

/// None where a file that was not probed is not as its container says.
fn read_packets(input: &mut Input, (stream, is_probed): (usize, bool)) -> Result<Option<Vec<Packet>>, VideoError> {
    let mut packets = Vec::new();
    loop {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => return whole(packets).map(Some),
            Err(error) => return Err(VideoError::Container { reason: error.to_string() }),
        }
        // An empty packet would tell the decoder that the video is over.
        if packet.stream() != stream || packet.size() == 0 {
            continue;
        }
        if packets.is_empty() && !is_probed && !is_as_told(input, stream) {
            return Ok(None);
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
