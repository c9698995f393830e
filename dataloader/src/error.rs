//! Why a clip is not in a batch.

use clips::VideoError;
use runtime::ask::AskError;

/// Who is at fault when clips break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The bytes are not there, or not those that were packed.
    Store,
    /// The bytes are good, but this installation can't decode them.
    Decoder,
    /// The files themselves are broken.
    Files,
}

/// What is wrong with one clip. It is replaced or left out; others are not touched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClipFault {
    /// The object is missing, shorter than the index says, or forbidden.
    #[error("its bytes can't be read from {object}: {reason}")]
    Object {
        /// The shard.
        object: String,
        /// What the store said.
        reason: String,
    },
    /// Other bytes than those that were packed.
    #[error("its bytes in {object} are not those that were packed: checksum {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The shard.
        object: String,
        /// Of the bytes read.
        found: u32,
        /// By the index.
        expected: u32,
    },
    /// Not a usable video.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// The decoder brought its thread down.
    #[error("the decoder failed on it: {0}")]
    Crashed(String),
}

impl ClipFault {
    /// Who is at fault.
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Object { .. } | Self::Checksum { .. } => Culprit::Store,
            Self::Crashed(_) => Culprit::Decoder,
            Self::Video(error) => match error.culprit() {
                clips::Culprit::File => Culprit::Files,
                clips::Culprit::Decoder => Culprit::Decoder,
            },
        }
    }
}

/// Why a clip could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// It is this clip.
    #[error(transparent)]
    Clip(#[from] ClipFault),
    /// It would be any clip: the store does not answer.
    #[error("the store is at fault: {0}")]
    Store(String),
    /// A part of this process has ended.
    #[error(transparent)]
    Process(#[from] AskError),
}
