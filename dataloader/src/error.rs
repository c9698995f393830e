//! Why a clip is not in a batch.

use clips::VideoError;
use runtime::ask::AskError;

use crate::decoder::{Death, Fault};

/// Who is at fault when clips break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The bytes are not there, or not those that were packed.
    Store,
    /// The bytes are good, but this installation can't decode them.
    Decoder,
    /// Decoders die: of the files, or of something else.
    Crashes,
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
    /// It was the end of its decoder.
    #[error("the decoder failed on it: {0}")]
    Died(#[from] Death),
    /// A fault of this program: it should not be.
    #[error("the decoder failed on it: {0}")]
    Fault(String),
}

impl ClipFault {
    /// Who is at fault.
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Object { .. } | Self::Checksum { .. } => Culprit::Store,
            Self::Died(_) | Self::Fault(_) => Culprit::Crashes,
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
    /// It would be any clip: there is no decoder.
    #[error("the decoder is at fault: {0}")]
    Decoder(String),
    /// A part of this process has ended.
    #[error(transparent)]
    Process(#[from] AskError),
}

impl From<Fault> for RenderError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Video(error) => Self::Clip(error.into()),
            Fault::Died(death) => Self::Clip(death.into()),
            Fault::NoDecoder { .. } => Self::Decoder(fault.to_string()),
        }
    }
}
