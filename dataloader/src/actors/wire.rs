//! Asks and batches as they look on the wire.

use bytes::Bytes;
use clips::DataConfig;
use proto::loader::{Ask, Batch, Replaced, Split};
use proto::status::Refusal;

use crate::data::DataSet;

/// Most clips of one ask.
pub const MAX_ASK_CLIPS: u32 = 4096;

/// An ask that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its number in the stream.
    pub id: u64,
    /// Permuted and augmented, or the clips as they stand.
    pub training: bool,
    /// The positions.
    pub positions: std::ops::Range<u64>,
}

/// One view of a position of a batch, or a position that is left out.
pub struct Slot {
    /// The position.
    pub position: u64,
    /// The clip that is shown; none is shown if there are no pixels.
    pub key: String,
    /// Its label.
    pub label: u32,
    /// Its pixels, thwc.
    pub pixels: Option<Vec<u8>>,
    /// The broken clip that it stands for.
    pub replaced: Option<Replaced>,
}

impl Wanted {
    /// Checks an ask against the data set.
    pub fn parse(ask: Ask, set: &DataSet) -> Result<Self, Refusal> {
        let refuse = |why: String| Err(Refusal::Invalid(format!("ask {}: {why}", ask.id)));
        let training = match ask.split() {
            Split::Train => true,
            Split::Val => false,
            Split::Unspecified => return refuse("it names no split".to_owned()),
        };
        if ask.count == 0 || ask.count > MAX_ASK_CLIPS {
            return refuse(format!("count is {}, but must be from 1 to {MAX_ASK_CLIPS}", ask.count));
        }
        let bytes = u64::from(ask.count) * u64::from(set.config.views_of(training)) * set.config.clip_bytes() as u64;
        if bytes > proto::MAX_MESSAGE_BYTES as u64 / 8 * 7 {
            return refuse(format!("{} clips are {bytes} bytes, more than a message holds", ask.count));
        }
        let Some(end) = ask.first.checked_add(ask.count.into()) else {
            return refuse(format!("first is {}, which leaves the numbers", ask.first));
        };
        let val_clips = set.val.index.clips.len() as u64;
        if !training && end > val_clips {
            return refuse(format!("positions {}..{end} of {val_clips} held-out clips", ask.first));
        }
        Ok(Self { id: ask.id, training, positions: ask.first..end })
    }
}

/// Puts slots side by side.
pub fn collate(config: &DataConfig, id: u64, slots: Vec<Slot>) -> Batch {
    let shown = slots.iter().filter(|slot| slot.pixels.is_some()).count();
    let mut pixels = clips::Batch::new(config, shown);
    let mut batch = Batch { id, frames: config.frames, height: config.crop, width: config.crop, ..Batch::default() };
    for slot in slots {
        if let Some(clip) = slot.pixels {
            pixels.put(batch.keys.len(), &clip);
            batch.keys.push(slot.key);
            batch.labels.push(slot.label);
            batch.positions.push(slot.position);
        }
        batch.replaced.extend(slot.replaced);
    }
    let (pixels, crc32c) = pixels.finish();
    batch.pixels_nthwc = Bytes::from(pixels);
    batch.crc32c = crc32c;
    batch
}
