//! What the index says of a video file.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Clip;
use crate::{Outline, Video, VideoError};

/// What is worth knowing of a video, and what is needed to decode it without its container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footage {
    /// Name of the container.
    pub container: String,
    /// Name of the codec.
    pub codec: String,
    /// Name of the format of its pixels; empty if the container does not say.
    pub pixel_format: String,
    /// Frames a second on average, if the container says so.
    pub fps: Option<f64>,
    /// How long it lasts at that rate.
    pub duration_seconds: Option<f64>,
    /// [`Outline::to_bytes`]; empty if the file can only be read as a whole.
    #[serde(with = "hex")]
    pub outline: Vec<u8>,
}

/// All that the index says of a file, whatever its name and place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its length.
    pub length_bytes: u64,
    /// Checksum of its bytes.
    pub crc32c: u32,
    /// Frames of the video stream.
    pub frames: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Parts in which it can be read; 0 if only as a whole.
    pub groups: u32,
    /// The rest.
    pub footage: Footage,
}

/// Describes a file. No frame of it is decoded.
pub fn describe(file: Bytes) -> Result<Description, VideoError> {
    Ok(Description::of(&Video::examine(file.clone())?, &file))
}

impl Description {
    /// Describes the file of an open video.
    pub fn of(video: &Video, file: &[u8]) -> Self {
        let outline = Outline::of(video, file);
        let footage = Footage {
            container: video.container().to_owned(),
            codec: video.codec().to_owned(),
            pixel_format: video.pixel_format(),
            fps: video.fps(),
            duration_seconds: video.fps().map(|fps| f64::from(video.frame_count()) / fps),
            outline: outline.as_ref().map(Outline::to_bytes).unwrap_or_default(),
        };
        Self {
            length_bytes: file.len() as u64,
            crc32c: crc32c::crc32c(file),
            frames: video.frame_count(),
            width: video.width(),
            height: video.height(),
            groups: outline.map_or(0, |outline| outline.groups().len() as u32),
            footage,
        }
    }

    /// The index's entry of the file under a name, with a label, at an offset in an object.
    pub fn clip(self, (key, label): (String, u32), (object, offset_bytes): (String, u64)) -> Clip {
        let Self { length_bytes, crc32c, frames, width, height, groups, footage } = self;
        let footage = Some(Box::new(footage));
        Clip { key, label, object, offset_bytes, length_bytes, crc32c, frames, width, height, groups, footage }
    }
}

/// Bytes as text, two digits each: a list of numbers would be twice as long.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("an outline is written in hexadecimal digits"))
    }
}
