//! Reads one file and decodes it once.

use std::path::Path;

use bytes::Bytes;
use clips::Video;
use clips::index::MAX_CLIP_BYTES;

/// A file that can be packed.
pub struct Examined {
    /// Its content.
    pub bytes: Bytes,
    /// Frames of the video stream.
    pub frames: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Reads and decodes a file, or says why it can't be packed. Blocks.
pub fn examine(path: &Path) -> Result<Examined, String> {
    let length = std::fs::metadata(path).map_err(|error| format!("can't read it: {error}"))?.len();
    if length > MAX_CLIP_BYTES {
        return Err(format!("it is {length} bytes long, at most {MAX_CLIP_BYTES} are packed: cut it into clips first"));
    }
    let bytes: Bytes = std::fs::read(path).map_err(|error| format!("can't read it: {error}"))?.into();
    let video = Video::open(bytes.clone()).map_err(|error| error.to_string())?;
    let survey = video.survey().map_err(|error| error.to_string())?;
    // A few concealed errors are normal in downloads; a file that is mostly errors teaches nothing.
    if survey.good * 2 < survey.frames {
        return Err(format!("only {} of {} frames can be decoded", survey.good, survey.frames));
    }
    Ok(Examined { bytes, frames: video.frame_count(), width: video.width(), height: video.height() })
}
