//! What happens, as the invariants hear it; and what is kept of it for people.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    time::Duration,
};

use cluster::{
    command::{Command, Seat, Start},
    event::{Event, Exit},
    ids::{GenerationNumber, Member},
    ledger::Entry,
    run::Run,
};
use tokio::sync::Notify;

use crate::{invariants::Invariant, process::Process, worker::weights::State};

/// One thing that happened.
pub enum Fact<'a> {
    /// A process started.
    Born(&'a Process),
    /// A process ended.
    Over(&'a Process, &'a Exit),
    /// A fault struck, or passed.
    Fault(&'a str),
    /// A coordinator's machine took an event.
    Decided {
        /// Whose.
        coordinator: &'a Process,
        /// What it heard.
        event: &'a Event,
        /// What it wants done.
        commands: &'a [Command],
        /// The machine afterwards.
        run: &'a Run,
        /// The workers at hand that hold a state, and how many steps are applied in it.
        holders: &'a [(Member, u64)],
    },
    /// The store holds a journal entry.
    Written {
        /// The process that put it.
        by: u32,
        /// Its number.
        number: u64,
        /// It.
        entry: &'a Entry,
    },
    /// A worker took its seat.
    Seated {
        /// The worker.
        worker: &'a Process,
        /// Its seat.
        seat: &'a Seat,
    },
    /// A worker has joined its group and has its state.
    Formed {
        /// The worker.
        worker: &'a Process,
        /// The generation.
        generation: GenerationNumber,
        /// Where its state is from.
        start: &'a Start,
        /// Its state.
        state: State,
    },
    /// A worker applied a step.
    Applied {
        /// The worker.
        worker: &'a Process,
        /// The coordinator that formed the generation, if the worker is still one of its members.
        member_of: Option<u32>,
        /// The generation.
        generation: GenerationNumber,
        /// The state before.
        before: State,
        /// The state after.
        after: State,
        /// Positions and clips of the whole batch.
        clips: &'a [(u64, u64)],
    },
    /// A process begins, or goes on, or has ended to wait for something.
    Waits {
        /// Who.
        process: &'a Process,
        /// For what.
        what: &'static str,
        /// Its number.
        wait: u64,
        /// For how long at most; `None`: it is over.
        limit: Option<Duration>,
    },
    /// Time has passed.
    Looked {
        /// Every process that has not ended.
        processes: &'a [&'a Process],
    },
    /// The faults are over.
    Calmed,
    /// Every process has ended by itself, or should have.
    Ended {
        /// What still runs.
        running: &'a [&'a Process],
        /// The weights of the last committed checkpoint, read as a reader does.
        last: Result<State, &'a str>,
    },
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// When.
    pub at: Duration,
    /// In which tick: facts that had been heard.
    pub tick: u64,
    /// What was seen.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, tick, words } = self;
        write!(
            f,
            "at {:.3} s, tick {tick}, {invariant} broke (sim/src/invariants/{invariant}.rs): {words}",
            at.as_secs_f64()
        )
    }
}

/// Hears every fact.
pub struct Watch {
    invariants: RefCell<Vec<Box<dyn Invariant>>>,
    tick: Cell<u64>,
    violation: RefCell<Option<Violation>>,
    found: Notify,
    /// The last facts in words, if somebody wants them.
    history: RefCell<Option<History>>,
}

struct History {
    most: usize,
    lines: VecDeque<String>,
}

impl Watch {
    /// All invariants; keeps the last `lines` facts in words, none if 0.
    pub fn new(invariants: Vec<Box<dyn Invariant>>, lines: usize) -> Self {
        let history = (lines > 0).then(|| History { most: lines, lines: VecDeque::new() });
        Self {
            invariants: RefCell::new(invariants),
            tick: Cell::new(0),
            violation: RefCell::default(),
            found: Notify::new(),
            history: RefCell::new(history),
        }
    }

    /// Every invariant hears the fact. The first one that it breaks counts.
    pub fn hear(&self, fact: &Fact<'_>, now: Duration) {
        self.tick.set(self.tick.get() + 1);
        if let Some(history) = &mut *self.history.borrow_mut() {
            history.add(fact, (now, self.tick.get()));
        }
        if self.violation.borrow().is_some() {
            return;
        }
        for invariant in self.invariants.borrow_mut().iter_mut() {
            if let Err(words) = invariant.hear(fact, now) {
                let violation = Violation { invariant: invariant.name(), at: now, tick: self.tick.get(), words };
                *self.violation.borrow_mut() = Some(violation);
                self.found.notify_one();
                return;
            }
        }
    }

    /// Resolves when an invariant is broken.
    pub async fn until_broken(&self) {
        self.found.notified().await;
    }

    /// What was broken, and the last facts.
    pub fn close(&self) -> (Option<Violation>, Vec<String>, u64) {
        let lines = self.history.take().map(|history| history.lines.into()).unwrap_or_default();
        (self.violation.take(), lines, self.tick.get())
    }
}

impl History {
    fn add(&mut self, fact: &Fact<'_>, (now, tick): (Duration, u64)) {
        let words = fact.to_string();
        if words.is_empty() {
            return;
        }
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>9.3} s  {tick:>7}  {words}", now.as_secs_f64()));
    }
}

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Born(process) => write!(f, "{process} starts"),
            Self::Over(process, exit) => write!(f, "{process} ends: {exit:?}"),
            Self::Fault(words) => write!(f, "FAULT {words}"),
            Self::Decided { event: Event::Tick, commands: [], .. } => Ok(()),
            Self::Decided { coordinator, event, commands, .. } => {
                let commands: Vec<String> = commands.iter().map(ToString::to_string).collect();
                write!(f, "{coordinator} hears {event:?} → [{}]", commands.join("; "))
            }
            Self::Written { by, number, entry } => write!(f, "the store has {number} by p{by}: {entry:?}"),
            Self::Seated { worker, seat } => {
                let assembly = &seat.assembly;
                write!(f, "{worker} sits: generation {}, rank {}", assembly.generation, seat.rank)
            }
            Self::Formed { worker, generation, state, .. } => write!(f, "{worker} formed {generation} at {state}"),
            Self::Applied { worker, generation, after, .. } => write!(f, "{worker} in {generation} applied {after}"),
            Self::Waits { .. } | Self::Looked { .. } => Ok(()),
            Self::Calmed => write!(f, "the faults are over"),
            Self::Ended { last, .. } => write!(f, "the end; the last checkpoint holds {last:?}"),
        }
    }
}
