//! What a checkpoint consists of: every object's length and digest.

use bytes::Bytes;
use cluster::ids::{GenerationNumber, RunName};
use serde::{Deserialize, Serialize};

/// The version that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The list of a checkpoint's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Whose it is.
    pub run: RunName,
    /// Steps applied.
    pub step: u64,
    /// The generation that wrote it.
    pub generation: GenerationNumber,
    /// The folder of the committed checkpoint before it.
    pub parent: Option<String>,
    /// The objects, by name.
    pub objects: Vec<Object>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its name inside the checkpoint's folder.
    pub name: String,
    /// Its length.
    pub length_bytes: u64,
    /// Its blake3, hex.
    pub blake3: String,
}

impl Object {
    /// Measures `bytes`.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), length_bytes: bytes.len() as u64, blake3: digest(bytes) }
    }

    /// What distinguishes `bytes` from the object that was written; `None` if nothing does.
    pub fn difference(&self, bytes: &[u8]) -> Option<Difference> {
        self.difference_from(&Self::of(&self.name, bytes))
    }

    /// The same for bytes that were measured.
    pub fn difference_from(&self, found: &Self) -> Option<Difference> {
        if found.length_bytes != self.length_bytes {
            return Some(Difference::Length { found: found.length_bytes, written: self.length_bytes });
        }
        (found.blake3 != self.blake3)
            .then(|| Difference::Digest { found: found.blake3.clone(), written: self.blake3.clone() })
    }
}

/// How an object differs from what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// Cut off, or longer.
    #[error("has {found} bytes; {written} were written")]
    Length {
        /// Now.
        found: u64,
        /// Then.
        written: u64,
    },
    /// Other bytes.
    #[error("holds other bytes than were written: blake3 {} instead of {}", short(found), short(written))]
    Digest {
        /// Now.
        found: String,
        /// Then.
        written: String,
    },
    /// A manifest whose digest is right but that this program can't read.
    #[error("can't be read by this version: {0}")]
    Unreadable(String),
}

impl Manifest {
    /// The bytes of `manifest.json`.
    pub fn to_bytes(&self) -> Bytes {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and numbers always serialise");
        text.push(b'\n');
        text.into()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Difference> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| Difference::Unreadable(error.to_string()))?;
        if manifest.version != VERSION {
            return Err(Difference::Unreadable(format!("its version is {}, not {VERSION}", manifest.version)));
        }
        Ok(manifest)
    }
}

/// blake3, hex.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Enough of a digest for a person to compare two.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            version: VERSION,
            run: "demo".parse().expect("a good name"),
            step: 50,
            generation: GenerationNumber(1),
            parent: None,
            objects: vec![Object::of("model.safetensors", b"weights")],
        }
    }

    #[test]
    fn a_manifest_comes_back() {
        assert_eq!(Manifest::from_bytes(&manifest().to_bytes()), Ok(manifest()));
    }

    #[test]
    fn another_version_is_refused_in_words() {
        let newer = Manifest { version: 2, ..manifest() };
        let told = Manifest::from_bytes(&newer.to_bytes()).expect_err("newer").to_string();
        assert_eq!(told, "can't be read by this version: its version is 2, not 1");
    }

    #[test]
    fn an_object_tells_a_cut_from_a_flip() {
        let object = Object::of("x", b"weights");
        assert_eq!(object.difference(b"weights"), None);
        assert!(matches!(object.difference(b"weight"), Some(Difference::Length { found: 6, written: 7 })));
        assert!(matches!(object.difference(b"weightz"), Some(Difference::Digest { .. })));
    }
}
