//! Decoding in processes of its own, so that a file that crashes, hangs or eats memory costs one clip.
//!
//! ```text
//! loader ── pool: one thread a decoder ── process ══ socket: requests, replies ══ child: FFmpeg
//!                                                 ══ memory: the file, then its pixels ══
//! ```
//!
//! The child is this program again (`dataloader decode-child`). It holds nothing but the clip at hand, may use so much
//! memory and no more, and dies with its loader. What it says is checked like anything that comes from outside: a
//! decoder that a file has taken over can spoil that file's pixels, nothing else.

pub mod child;
pub mod pool;
pub mod process;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clips::VideoError;

pub use pool::{Pool, PoolFigures};
pub use process::Decoder;

/// How decoders are started and what they are allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The `dataloader` program.
    pub program: PathBuf,
    /// Memory that a decoder may ask for.
    pub memory_bytes: u64,
    /// How long a clip may take; none: [`Settings::deadline`] goes by the length of its file.
    pub deadline: Option<Duration>,
}

/// Enough for the largest frames that are decoded, with all their references.
pub const DEFAULT_MEMORY_MIB: u64 = 2048;
/// A clip takes a fraction of a second; a machine that is busy with other things may take this long.
const DEADLINE: Duration = Duration::from_secs(30);
/// On top of that for each MiB of the file: twenty times what decoding all of it takes.
const DEADLINE_PER_MIB: Duration = Duration::from_secs(2);
/// However long the file is, and however long it is set to. Whoever waits for a batch has a deadline, too.
pub const MAX_DEADLINE_SECONDS: u64 = 120;
const MIB: usize = 1 << 20;

impl Settings {
    /// This program itself, with the default limits.
    pub fn of_this_program() -> Self {
        // Not its path: that may be another program by now, or none, after an upgrade.
        let program = PathBuf::from("/proc/self/exe");
        Self { program, memory_bytes: DEFAULT_MEMORY_MIB << 20, deadline: None }
    }

    /// How long a file of this length may take from one answer to the next.
    pub fn deadline(&self, file_bytes: usize) -> Duration {
        let mib = u32::try_from(file_bytes / MIB).unwrap_or(u32::MAX);
        let by_length = || DEADLINE.saturating_add(DEADLINE_PER_MIB.saturating_mul(mib));
        self.deadline.unwrap_or_else(by_length).min(Duration::from_secs(MAX_DEADLINE_SECONDS))
    }
}

/// How a decoder was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// It ended by itself, or the kernel ended it.
    #[error("its process ended: {0}")]
    Ended(String),
    /// It did not answer, so it was killed.
    #[error("its process was stopped after {} s without an answer", .0.as_secs_f64())]
    Late(Duration),
    /// It answered nonsense, so it was killed.
    #[error("its process was stopped: it answered {0}")]
    Nonsense(String),
}

/// Why there are no pixels.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The file is no usable video.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// Its decoder was lost, twice.
    #[error("the decoder failed on it: {0}")]
    Died(#[from] Death),
    /// There is no decoder. It would be the same with any clip.
    #[error("no decoder can be started ({program} decode-child): {reason}")]
    NoDecoder {
        /// What was to be started.
        program: String,
        /// What went wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_file_may_take_longer_unless_a_deadline_is_set() {
        let settings = Settings::of_this_program();
        assert_eq!(settings.deadline(900 << 10), Duration::from_secs(30));
        assert_eq!(settings.deadline(10 << 20), Duration::from_secs(50));
        assert_eq!(settings.deadline(usize::MAX), Duration::from_secs(120));
        let fixed = Settings { deadline: Some(Duration::from_secs(5)), ..settings };
        assert_eq!(fixed.deadline(100 << 20), Duration::from_secs(5));
    }
}
