//! Decodes a file once, and says what the index says of it.

use bytes::Bytes;
use clips::index::MAX_CLIP_BYTES;
use clips::{Clip, Video};

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

/// Where a clip stands in a data set.
pub struct Standing {
    /// Its name.
    pub key: String,
    /// Its class.
    pub label: u32,
    /// The object that holds it.
    pub object: String,
    /// Where it begins there.
    pub offset_bytes: u64,
}

impl Examined {
    /// Its entry in the index: the only place where one is made.
    pub fn clip(&self, standing: Standing) -> Clip {
        let Standing { key, label, object, offset_bytes } = standing;
        Clip {
            key,
            label,
            object,
            offset_bytes,
            length_bytes: self.bytes.len() as u64,
            crc32c: crc32c::crc32c(&self.bytes),
            frames: self.frames,
            width: self.width,
            height: self.height,
        }
    }
}

/// Refuses a file by its length, before it is read.
pub fn check_length(length_bytes: u64) -> Result<(), String> {
    if length_bytes > MAX_CLIP_BYTES {
        return Err(format!(
            "it is {length_bytes} bytes long, at most {MAX_CLIP_BYTES} are packed: cut it into clips first"
        ));
    }
    Ok(())
}

/// Decodes a file, or says why it can't be packed. Blocks.
pub fn examine(bytes: Bytes) -> Result<Examined, String> {
    let video = Video::open(bytes.clone()).map_err(|error| error.to_string())?;
    let survey = video.survey().map_err(|error| error.to_string())?;
    // A few concealed errors are normal in downloads; a file that is mostly errors teaches nothing.
    if survey.good * 2 < survey.frames {
        return Err(format!("only {} of {} frames can be decoded", survey.good, survey.frames));
    }
    Ok(Examined { bytes, frames: video.frame_count(), width: video.width(), height: video.height() })
}
