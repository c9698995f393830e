//! What is to be done about it.

mod show;

use std::{ops::Range, sync::Arc, time::Duration};

use crate::{
    ids::{GenerationNumber, Member, MemberName},
    ledger::Entry,
    report::{Commit, DataSet, Evaluation, StepReport},
};

/// One thing to do. Commands are executed in order; none waits for an answer, what comes of it returns as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take a new member in: tell it what it must know of the run.
    Welcome(Member),
    /// Don't take it in: close its stream with this reason.
    Refuse(Member, String),
    /// Write an entry into the journal; `Recorded` or `RecordFailed` comes of it.
    Record(Entry),
    /// From now on the rendezvous serves this generation and refuses older ones.
    OpenRendezvous(GenerationNumber),
    /// Nobody meets in this generation any more: whoever still waits for a peer there is told at once, whoever asks later too.
    CloseRendezvous {
        /// The generation that is over.
        generation: GenerationNumber,
        /// What ended it, and who was not ready yet.
        reason: String,
    },
    /// Read every byte of a checkpoint and compare it with what was written; `Verified` comes of it.
    Verify(Commit),
    /// Delete the objects of these checkpoints, which the journal says are dropped. What is left of them hurts nobody.
    Delete(Vec<String>),
    /// Send an order to a member. If it is gone, nothing happens: its loss is an event of its own.
    Order(Member, Order),
    /// Start a process for a seat, after a pause.
    Launch {
        /// The seat.
        child: MemberName,
        /// The pause.
        after: Duration,
    },
    /// Kill the process in a seat: it lives but does not answer. Its end is an event.
    Kill(MemberName),
    /// Say something to the people who watch. Carries the reason of the decisions beside it.
    Tell(Notice),
    /// The run is over for this coordinator: let go of everything, then exit.
    End {
        /// The process's exit code.
        code: u8,
        /// Why, in one sentence.
        sentence: String,
    },
}

/// What a member is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Take this seat in a new generation; drop whatever belongs to an older one.
    Sit(Seat),
    /// End this generation and say what state is held: at once, or after a step that all workers agree on.
    Halt {
        /// The generation that ends.
        generation: GenerationNumber,
        /// Whether the workers are to stop together, after a step.
        after_step: bool,
    },
    /// The commit of a checkpoint is written.
    Committed(Commit),
    /// Finish the step, leave a checkpoint, go.
    Drain,
    /// Go now.
    Stop {
        /// Why.
        reason: String,
        /// The exit code to use.
        code: u8,
    },
}

/// One worker's place in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Its rank.
    pub rank: u32,
    /// The lanes that it carries.
    pub lanes: Range<u32>,
    /// What all seats share.
    pub assembly: Arc<Assembly>,
}

/// What all workers of a generation have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// The generation's number.
    pub generation: GenerationNumber,
    /// Its workers by rank.
    pub workers: Vec<Member>,
    /// URLs of the loaders.
    pub loaders: Vec<String>,
    /// Where its state comes from.
    pub start: Start,
    /// The data.
    pub data_set: DataSet,
}

/// Where the state of a generation comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// From the run's seed: nothing was trained yet.
    Seed,
    /// From the store: nobody survived.
    Checkpoint(Commit),
    /// From the most advanced survivor, by broadcast.
    Survivor {
        /// Its rank in the new generation.
        rank: u32,
        /// Steps that it has applied.
        step: u64,
    },
}

impl Start {
    /// Steps applied in that state.
    pub fn step(&self) -> u64 {
        match self {
            Self::Seed => 0,
            Self::Checkpoint(commit) => commit.step,
            Self::Survivor { step, .. } => *step,
        }
    }

    /// Prefix of the checkpoint, if it is one.
    pub fn prefix(&self) -> Option<&str> {
        if let Self::Checkpoint(commit) = self { Some(&commit.prefix) } else { None }
    }

    /// The survivor's rank, if there is one.
    pub fn source(&self) -> Option<u32> {
        if let Self::Survivor { rank, .. } = self { Some(*rank) } else { None }
    }
}

/// Something that people may want to know, with the reason in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The data is known.
    Planned {
        /// The data.
        data_set: DataSet,
        /// Steps of the whole run.
        total_steps: u64,
    },
    /// The run can't go on before these are there.
    Waiting {
        /// For whom, in words.
        whom: String,
    },
    /// A new generation was announced.
    Generation {
        /// What it consists of.
        assembly: Arc<Assembly>,
        /// Why there is a new one.
        why: String,
    },
    /// All its workers are ready.
    Formed {
        /// The generation.
        generation: GenerationNumber,
        /// The next step.
        step: u64,
    },
    /// A step is applied.
    Step(StepReport),
    /// An evaluation is done.
    Evaluated(Evaluation),
    /// A checkpoint is committed.
    Committed(Commit),
    /// Checkpoints are no longer kept; their prefixes.
    Dropped(Vec<String>),
    /// A clip is broken.
    Quarantined {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A generation ended by a failure.
    SetBack {
        /// The cause, in words: who and what.
        cause: String,
        /// The generation that it ended.
        generation: GenerationNumber,
        /// Which one since the run got further.
        count: u32,
        /// How many the run survives.
        of: u32,
    },
    /// The run stops in good order.
    Draining {
        /// Who asked.
        by: String,
    },
    /// Something is odd, but the run goes on.
    Warning(String),
}
