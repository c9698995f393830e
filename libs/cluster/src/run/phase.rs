//! Where a run stands. The table of legal moves is the `match` on this type in `run`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    command::Assembly,
    ids::{GenerationNumber, Member},
};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not enough members are there, or a failure has not settled yet.
    Gathering {
        /// Since when nothing changed about that.
        since: Duration,
    },
    /// A generation is being written into the journal; nobody knows of it yet.
    Recording {
        /// It.
        assembly: Arc<Assembly>,
    },
    /// A generation was announced; its workers meet and take its state.
    Forming {
        /// It.
        assembly: Arc<Assembly>,
        /// When it was announced.
        since: Duration,
        /// Who is ready.
        formed: BTreeSet<Member>,
        /// Who has done all steps by then: where none is left to do, one says so before another says that it is ready.
        trained: BTreeSet<Member>,
    },
    /// Steps are made.
    Training {
        /// By this generation.
        assembly: Arc<Assembly>,
        /// Who has done all steps.
        trained: BTreeSet<Member>,
        /// The workers were asked to stop after a step, since others want in.
        pausing: bool,
    },
    /// The generation is over; whoever is left of it says what state it holds.
    Halting {
        /// It.
        assembly: Arc<Assembly>,
        /// Since when.
        since: Duration,
        /// Who has not said so yet.
        waits_for: BTreeSet<Member>,
    },
    /// The workers finish their step and leave.
    Draining {
        /// Since when.
        since: Duration,
        /// The generation that stepped.
        generation: GenerationNumber,
        /// Who is not gone yet.
        waits_for: BTreeSet<Member>,
        /// Whether somebody went without leaving in good order.
        broken: bool,
        /// The last step was reached before the wish to stop was heard.
        trained: bool,
    },
    /// All steps are done; that is being written.
    Finishing,
    /// Over, for this coordinator.
    Ended,
}

impl Phase {
    /// The generation that steps, is about to, or did so until now.
    pub fn assembly(&self) -> Option<&Arc<Assembly>> {
        match self {
            Self::Recording { assembly }
            | Self::Forming { assembly, .. }
            | Self::Training { assembly, .. }
            | Self::Halting { assembly, .. } => Some(assembly),
            Self::Gathering { .. } | Self::Draining { .. } | Self::Finishing | Self::Ended => None,
        }
    }

    /// Whether the run is on its way out: nobody joins any more.
    pub fn is_closing(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Finishing | Self::Ended)
    }

    /// Whether what a generation reports about its steps still counts.
    pub fn is_current(&self, number: GenerationNumber) -> bool {
        match self {
            Self::Forming { assembly, .. } | Self::Training { assembly, .. } | Self::Halting { assembly, .. } => {
                assembly.generation == number
            }
            Self::Draining { generation, .. } => *generation == number,
            Self::Gathering { .. } | Self::Recording { .. } | Self::Finishing | Self::Ended => false,
        }
    }
}
