//! What can be wrong with a video file.

use serde::{Deserialize, Serialize};

/// Who is at fault when a clip can't be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// The file itself: no program could show it.
    File,
    /// The decoder of this installation: another one might.
    Decoder,
}

/// Why a video can't be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum VideoError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// A page of text where a video was expected.
    #[error("the file is a web page, not a video: the download answered with an error page")]
    WebPage,
    /// No known container.
    #[error("the file is not a video: no mp4, mov, mkv, webm, avi, mpeg, ts, flv, asf or ogg was recognised")]
    NotVideo,
    /// The end is missing.
    #[error("the file is cut off: {what}")]
    Truncated {
        /// What shows it.
        what: String,
    },
    /// The container's own structure is broken.
    #[error("the container can't be read: {reason}")]
    Container {
        /// What the demuxer said.
        reason: String,
    },
    /// Sound only.
    #[error("the file has no video stream")]
    NoVideoStream,
    /// A video stream with nothing in it.
    #[error("the video stream has no frames")]
    NoFrames,
    /// Frames larger than anything that is filmed.
    #[error("a frame is {width} x {height} pixels, at most {max_pixels} pixels and {max_side} a side are decoded")]
    Dimensions {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bound on their product.
        max_pixels: u64,
        /// Bound on each.
        max_side: u32,
    },
    /// More frames than any clip needs.
    #[error("the video has more than {max} frames: cut it into clips first")]
    TooLong {
        /// The bound.
        max: usize,
    },
    /// The codec is not built in.
    #[error("this ffmpeg has no decoder for {codec}")]
    NoDecoder {
        /// Name of the codec.
        codec: String,
    },
    /// The decoder did not deliver a wanted frame.
    #[error("frame {frame} of {count} can't be decoded: {reason}")]
    Decode {
        /// Which.
        frame: u32,
        /// Of how many.
        count: u32,
        /// What the decoder said.
        reason: String,
    },
    /// An excerpt's packets do not give a frame: the whole file may.
    #[error("frame {frame} does not come out of an excerpt of the file")]
    Excerpt {
        /// Which.
        frame: u32,
    },
    /// The scaler refused the decoded picture.
    #[error("frames of {width} x {height} pixels in format {format} can't be scaled: {reason}")]
    Scale {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Pixel format.
        format: String,
        /// What the scaler said.
        reason: String,
    },
}

impl VideoError {
    /// Who is at fault.
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::NoDecoder { .. } | Self::Scale { .. } => Culprit::Decoder,
            _ => Culprit::File,
        }
    }
}
