//! The list of a data set's clips: `index.parquet` beside the shards.
//!
//! The order of the clips is part of the data set: the plan's positions are permutations of it. The digest covers what
//! a model can see (classes, and per clip key, label and content), not where the bytes lie, so that the same clips cut
//! into other shards are the same data set.

mod describe;
mod open;
mod table;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

pub use describe::{Description, Footage, describe};
pub use open::{End, Footer, Outlines, unseal};

/// Name of the index object below a data set's URL.
pub const INDEX_OBJECT: &str = "index.parquet";

/// Name that it had until version 1.
pub const OLD_INDEX_OBJECT: &str = "index.json";

/// Layout of the index that this code writes and reads.
pub const INDEX_VERSION: u32 = 2;

/// Largest video file that a data set may hold, bytes.
pub const MAX_CLIP_BYTES: u64 = 1 << 30;

/// All clips of one data set, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// The clips, in the order that positions refer to.
    pub clips: Vec<Clip>,
}

/// One video file inside a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// Unique name, also the member's name in the shard.
    pub key: String,
    /// Index into the classes.
    pub label: u32,
    /// Object that holds the bytes, relative to the index.
    pub object: String,
    /// Where the file's bytes begin in the object.
    pub offset_bytes: u64,
    /// How many there are.
    pub length_bytes: u64,
    /// Checksum of them.
    pub crc32c: u32,
    /// Frames of the video stream.
    pub frames: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Parts in which the file can be read; 0 if only as a whole.
    #[serde(default)]
    pub groups: u32,
    /// The rest of what is known of it, where it was read.
    #[serde(default)]
    pub footage: Option<Box<Footage>>,
}

/// Why an index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not a table of the right shape.
    #[error("it is not an index: {0}")]
    Table(String),
    /// Written by another version.
    #[error("its version is {found}, this program reads {INDEX_VERSION}; pack the data set again")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Nothing in it.
    #[error("it lists no clips: pack at least one")]
    NoClips,
    /// A clip whose label has no class.
    #[error("clip {key:?} has label {label}, but there are only {classes} classes")]
    Label {
        /// The clip.
        key: String,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// Two clips of one name.
    #[error("key {key:?} occurs twice")]
    DuplicateKey {
        /// The name.
        key: String,
    },
    /// An empty or absurdly long byte range.
    #[error("clip {key:?} is {length_bytes} bytes long, but must be from 1 to {MAX_CLIP_BYTES}")]
    Length {
        /// The clip.
        key: String,
        /// Its length.
        length_bytes: u64,
    },
    /// A range that leaves the numbers.
    #[error("clip {key:?} begins at byte {offset_bytes}, which no object reaches")]
    Offset {
        /// The clip.
        key: String,
        /// Its offset.
        offset_bytes: u64,
    },
    /// An object name that leaves the data set's folder.
    #[error("clip {key:?} lies in object {object:?}, which is not below the data set")]
    Object {
        /// The clip.
        key: String,
        /// The object's name.
        object: String,
    },
}

impl Index {
    /// An index of these clips; checked.
    pub fn new(classes: Vec<String>, clips: Vec<Clip>) -> Result<Self, IndexError> {
        let index = Self { classes, clips };
        index.check()?;
        Ok(index)
    }

    /// Reads what [`Index::to_bytes`] wrote, all of it. A loader reads less: [`Footer`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        open::whole(bytes)
    }

    /// The object's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        table::write(self).expect("a table in memory can be written")
    }

    /// Identity of the clips and their order, hex.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.feed(&mut hasher);
        hasher.finalize().to_hex().to_string()
    }

    fn feed(&self, hasher: &mut blake3::Hasher) {
        number(hasher, self.classes.len() as u64);
        for class in &self.classes {
            text(hasher, class);
        }
        number(hasher, self.clips.len() as u64);
        for clip in &self.clips {
            text(hasher, &clip.key);
            number(hasher, clip.label.into());
            number(hasher, clip.length_bytes);
            number(hasher, clip.crc32c.into());
        }
    }

    fn check(&self) -> Result<(), IndexError> {
        if self.clips.is_empty() {
            return Err(IndexError::NoClips);
        }
        for clip in &self.clips {
            clip.check(self.classes.len())?;
        }
        match self.repeated_key() {
            Some(key) => Err(IndexError::DuplicateKey { key: key.to_owned() }),
            None => Ok(()),
        }
    }

    /// A key that occurs twice. By numbers instead of the keys themselves: there may be a million.
    fn repeated_key(&self) -> Option<&str> {
        let key = |number: u32| self.clips[number as usize].key.as_str();
        let hash = |number: u32| {
            let mut hasher = DefaultHasher::new();
            key(number).hash(&mut hasher);
            (hasher.finish(), number)
        };
        let mut hashes: Vec<(u64, u32)> = (0..self.clips.len() as u32).map(hash).collect();
        hashes.sort_unstable();
        let alike = hashes.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1);
        alike.into_iter().find_map(|alike| {
            let mut keys: Vec<&str> = alike.iter().map(|&(_, number)| key(number)).collect();
            keys.sort_unstable();
            keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
        })
    }
}

impl From<parquet::errors::ParquetError> for IndexError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Table(error.to_string())
    }
}

impl Clip {
    /// The bytes' range in the object.
    pub fn range_bytes(&self) -> std::ops::Range<u64> {
        self.offset_bytes..self.offset_bytes + self.length_bytes
    }

    fn check(&self, classes: usize) -> Result<(), IndexError> {
        let key = self.key.clone();
        if self.label as usize >= classes {
            return Err(IndexError::Label { key, label: self.label, classes });
        }
        if self.length_bytes == 0 || self.length_bytes > MAX_CLIP_BYTES {
            return Err(IndexError::Length { key, length_bytes: self.length_bytes });
        }
        if self.offset_bytes > u64::MAX / 2 {
            return Err(IndexError::Offset { key, offset_bytes: self.offset_bytes });
        }
        let below = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !self.object.split('/').all(below) {
            return Err(IndexError::Object { key, object: self.object.clone() });
        }
        Ok(())
    }
}

/// Identity of a run's data: both indexes, hex. Two loaders that agree on it render the same clips.
pub fn pair_digest(train: &Index, val: &Index) -> String {
    let mut hasher = blake3::Hasher::new();
    train.feed(&mut hasher);
    val.feed(&mut hasher);
    hasher.finalize().to_hex().to_string()
}

fn number(hasher: &mut blake3::Hasher, value: u64) {
    hasher.update(&value.to_le_bytes());
}

/// Length first: ("ab", "c") and ("a", "bc") must differ.
fn text(hasher: &mut blake3::Hasher, value: &str) {
    number(hasher, value.len() as u64);
    hasher.update(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn clip(key: &str, label: u32) -> Clip {
        Clip {
            key: key.into(),
            label,
            object: "shard-00000.tar".into(),
            offset_bytes: 512,
            length_bytes: 100,
            crc32c: 7,
            frames: 36,
            width: 128,
            height: 128,
            groups: 0,
            footage: None,
        }
    }

    fn two() -> Index {
        Index::new(vec!["a".into(), "b".into()], vec![clip("a/1", 0), clip("b/1", 1)]).expect("valid")
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Index::parse(&two().to_bytes()).expect("own output"), two());
    }

    #[test]
    fn the_digest_follows_content_and_order_but_not_place() {
        let mut moved = two();
        moved.clips[0].object = "other.tar".into();
        moved.clips[0].offset_bytes = 9216;
        assert_eq!(moved.digest(), two().digest());
        let mut swapped = two();
        swapped.clips.swap(0, 1);
        assert_ne!(swapped.digest(), two().digest());
        let mut relabelled = two();
        relabelled.clips[0].label = 1;
        assert_ne!(relabelled.digest(), two().digest());
        assert_ne!(pair_digest(&two(), &swapped), pair_digest(&swapped, &two()));
    }

    #[test]
    fn a_bad_index_is_refused_with_the_clip_named() {
        let classes = || vec!["a".to_owned()];
        let refused = |change: fn(&mut Clip)| {
            let mut bad = clip("x", 0);
            change(&mut bad);
            Index::new(classes(), vec![bad]).expect_err("must be refused").to_string()
        };
        assert_eq!(refused(|c| c.label = 3), "clip \"x\" has label 3, but there are only 1 classes");
        assert!(refused(|c| c.length_bytes = 0).starts_with("clip \"x\" is 0 bytes long"));
        assert!(refused(|c| c.length_bytes = u64::MAX).contains("bytes long, but must be from 1 to"));
        assert!(refused(|c| c.offset_bytes = u64::MAX).contains("no object reaches"));
        for outside in ["../secret", "/etc/passwd", "a//b", ""] {
            let mut bad = clip("x", 0);
            bad.object = outside.into();
            assert!(matches!(Index::new(classes(), vec![bad]), Err(IndexError::Object { .. })), "{outside}");
        }
        assert!(matches!(Index::new(classes(), vec![]), Err(IndexError::NoClips)));
        let twice = Index::new(classes(), vec![clip("x", 0), clip("x", 0)]);
        assert_eq!(twice.expect_err("twice").to_string(), "key \"x\" occurs twice");
    }

    /// A clip with footage whose outline is as long as its number.
    fn filmed(number: u32) -> Clip {
        let outline = vec![number as u8; number as usize % 40];
        let footage = Footage {
            container: "mp4".into(),
            codec: "h264".into(),
            pixel_format: "yuv420p".into(),
            fps: (!number.is_multiple_of(3)).then_some(25.0),
            duration_seconds: (!number.is_multiple_of(3)).then_some(f64::from(number) / 25.0),
            outline,
        };
        Clip { groups: 3, crc32c: number, footage: Some(Box::new(footage)), ..clip(&format!("a/{number}"), 0) }
    }

    /// Opens an index as a loader does, which has `first` bytes of its end.
    fn opened(bytes: &Bytes, first: u64) -> (Index, Outlines) {
        let length = bytes.len() as u64;
        let range = |range: std::ops::Range<u64>| bytes.slice(range.start as usize..range.end as usize);
        let mut end = first.min(length);
        loop {
            match Footer::parse(&range(length - end..length), length).expect("own output") {
                End::Longer(more) => end = more,
                End::Whole(footer) => {
                    let parts = footer.ranges().into_iter().map(range).collect();
                    return footer.open(parts).expect("own output");
                }
            }
        }
    }

    #[test]
    fn a_loader_reads_the_first_columns_and_single_pages() {
        let clips: Vec<Clip> = (0..70_000).map(filmed).collect();
        let index = Index::new(vec!["a".to_owned()], clips).expect("valid");
        let bytes = Bytes::from(index.to_bytes());
        for first in [8, 1000, 1 << 30] {
            let (light, outlines) = opened(&bytes, first);
            assert_eq!(light.digest(), index.digest());
            assert!(light.clips.iter().zip(&index.clips).all(|(a, b)| a == &Clip { footage: None, ..b.clone() }));
            for number in [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 69_999] {
                let (page, range) = outlines.page_of(number);
                assert!(range.end - range.start < 2000, "{range:?} is one page");
                let sealed = outlines.read(page, bytes.slice(range.start as usize..range.end as usize)).expect("read");
                let sealed = &sealed[outlines.place_in(page, number)];
                let expected = &index.clips[number as usize].footage.as_ref().expect("filmed").outline;
                match expected.is_empty() {
                    true => assert!(sealed.is_empty()),
                    false => assert_eq!(table::unseal(number as u32, sealed), Some(&expected[..])),
                }
                assert_eq!(table::unseal(number as u32 + 1, sealed), None, "another clip's");
            }
        }
        assert_eq!(Index::parse(&bytes).expect("own output"), index);
    }

    #[test]
    fn a_clip_survives_a_journal_of_json() {
        let clip = filmed(17);
        let text = serde_json::to_string(&clip).expect("serialises");
        assert_eq!(serde_json::from_str::<Clip>(&text).expect("own output"), clip);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let whole = two().to_bytes();
        for (bytes, says) in [
            (&b"<html>"[..], "it is not an index"),
            (b"", "it is not an index"),
            (br#"{"version": 1, "classes": [], "clips": []}"#, "it is not an index"),
            (&whole[..whole.len() - 9], "it is not an index"),
        ] {
            let error = Index::parse(bytes).expect_err("refused").to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
