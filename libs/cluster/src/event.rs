//! What happens to a run.

use std::fmt;

use crate::{
    ids::{GenerationNumber, Member, MemberName},
    ledger::Entry,
    report::{DataSet, Evaluation, StepReport},
};

/// One thing that happened. Whatever a member did inside a generation carries its number.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The coordinator runs and the ledger is replayed.
    Started,
    /// Time has passed. Comes at least every `beat`.
    Tick,
    /// A member opened its stream and said who it is.
    Joined {
        /// The member.
        member: Member,
        /// What it is there for.
        role: Role,
    },
    /// A loader has opened the data.
    DataFound {
        /// The loader.
        member: Member,
        /// What it found.
        data_set: DataSet,
    },
    /// A worker has joined its group and loaded its state.
    Formed {
        /// The worker.
        member: Member,
        /// The generation it joined.
        generation: GenerationNumber,
        /// The next step it will do.
        step: u64,
    },
    /// A worker's part in a generation is over, as it was told.
    Held {
        /// The worker.
        member: Member,
        /// The generation that ended.
        generation: GenerationNumber,
        /// Steps applied in the state that it still holds; `None` if it holds none.
        step: Option<u64>,
    },
    /// Rank 0 applied a step.
    StepDone(StepReport),
    /// Rank 0 evaluated.
    Evaluated(Evaluation),
    /// A checkpoint's objects are in the store.
    Stored(Stored),
    /// A clip is broken.
    Quarantined {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A member reports that something went wrong.
    Failed {
        /// The member.
        member: Member,
        /// The generation it happened in; 0 for none.
        generation: GenerationNumber,
        /// What kind of thing.
        fault: Fault,
        /// The member's words.
        message: String,
    },
    /// A worker has done all steps.
    Trained {
        /// The worker.
        member: Member,
        /// In which generation.
        generation: GenerationNumber,
        /// Steps applied.
        step: u64,
    },
    /// A member goes away in good order.
    Leaving {
        /// The member.
        member: Member,
        /// Steps applied.
        step: u64,
    },
    /// A member's stream is gone.
    Lost {
        /// The member.
        member: Member,
        /// How that was noticed.
        loss: Loss,
    },
    /// A launched process ended.
    ChildEnded {
        /// Its seat.
        child: MemberName,
        /// How it ended.
        end: ChildEnd,
    },
    /// The journal holds the entry.
    Recorded(Entry),
    /// A checkpoint was read back.
    Verified {
        /// Its prefix.
        prefix: String,
        /// What was found.
        found: Condition,
    },
    /// The journal could not be written.
    RecordFailed(RecordFailure),
    /// Somebody wants the run to stop in good order.
    DrainAsked {
        /// Who, in words: `Ctrl-C`.
        by: String,
    },
}

/// What a member is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It computes on this device.
    Worker {
        /// `cpu` or `cuda:0`.
        device: String,
    },
    /// It serves clips at this URL.
    Loader {
        /// The URL of its service.
        address: String,
    },
}

/// A checkpoint that waits for its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// In which generation it was taken.
    pub generation: GenerationNumber,
    /// Steps applied.
    pub step: u64,
    /// Where its objects are.
    pub prefix: String,
    /// blake3 of its manifest, hex.
    pub manifest_digest: String,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Recipe or command line: restarting does not help.
    Configuration,
    /// Store, decoder or files.
    Data,
    /// A peer went away inside a collective: an echo of something else.
    Collective,
    /// A non-finite loss, no memory, a kernel's error.
    Compute,
    /// An upload failed; training goes on.
    Checkpoint,
}

/// What reading a checkpoint back has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Every byte is what was written.
    Whole,
    /// An object is missing, or not what was written: which, and how.
    Damaged(String),
    /// The store did not say.
    Unknown(String),
}

/// How a loss was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The stream broke.
    Broken,
    /// Nothing came for `patience`.
    Silent,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildEnd {
    /// Its exit code, or the signal that killed it, or why it could not be started.
    pub how: Exit,
    /// The last line that it wrote, if it wrote one.
    pub last_line: Option<String>,
    /// Where its output is.
    pub log: String,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended itself.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
    /// It never ran.
    NotStarted(String),
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            Exit::Code(code) => write!(f, "exited with code {code}")?,
            Exit::Signal(signal) => write!(f, "was killed by signal {}", signal_name(*signal))?,
            Exit::NotStarted(why) => return write!(f, "could not be started: {why}"),
        }
        // Who is killed from outside did not see it coming: the last line has nothing to do with it.
        if let (Some(line), false) = (&self.last_line, matches!(self.how, Exit::Signal(9 | 15))) {
            write!(f, ": {line}")?;
        }
        write!(f, " (log: {})", self.log)
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        6 => "6 (SIGABRT)".to_owned(),
        7 => "7 (SIGBUS)".to_owned(),
        9 => "9 (SIGKILL)".to_owned(),
        11 => "11 (SIGSEGV)".to_owned(),
        15 => "15 (SIGTERM)".to_owned(),
        other => other.to_string(),
    }
}

/// Why an entry is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFailure {
    /// Another coordinator wrote in its place: this one is fenced.
    Fenced,
    /// The store did not take it.
    Store(String),
}
