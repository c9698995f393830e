//! Which requests are struck, and by what.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What can be done to a request. What spoils a body loses the answers that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// 500, and the store never hears of it.
    InternalError,
    /// 503 with S3's code for too many requests.
    SlowDown,
    /// 404 for what is there.
    NotFound,
    /// Half of the body, then silence on an open connection.
    Stall,
    /// Half of the body, then the connection ends.
    Truncate,
    /// The connection is reset before any answer; the store never hears of it.
    Reset,
    /// The store does what it was asked, and the connection is reset in place of its answer.
    LostAnswer,
    /// Half of the body, announced as all of it.
    ShortLength,
    /// All of the body, announced as longer.
    LongLength,
    /// The answer comes after ten seconds.
    Late,
}

/// How often each fault struck.
pub type Fired = BTreeMap<Fault, u64>;

/// The weather from now on.
#[derive(Debug)]
pub struct Forecast {
    /// Strike the next requests, one each, before anything else.
    pub next: VecDeque<Fault>,
    /// Strike this share of all others, 0 to 1.
    pub share: f64,
    /// With one of these.
    pub kinds: Vec<Fault>,
    /// Every request waits so long first.
    pub latency: Duration,
    random: ChaCha8Rng,
    fired: Fired,
    requests: u64,
}

impl Forecast {
    /// Fair weather, and what comes later drawn from `seed`.
    pub fn fair(seed: u64) -> Self {
        Self {
            next: VecDeque::new(),
            share: 0.0,
            kinds: Vec::new(),
            latency: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
            fired: Fired::new(),
            requests: 0,
        }
    }

    /// What struck so far.
    pub fn fired(&self) -> Fired {
        self.fired.clone()
    }

    /// Requests that came so far, struck or not.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// What strikes the request that came now.
    pub(crate) fn strike(&mut self) -> Option<Fault> {
        self.requests += 1;
        let drawn = |random: &mut ChaCha8Rng| {
            random.random_bool(self.share.clamp(0.0, 1.0)).then(|| self.kinds.choose(random).copied()).flatten()
        };
        let fault = self.next.pop_front().or_else(|| drawn(&mut self.random))?;
        *self.fired.entry(fault).or_default() += 1;
        Some(fault)
    }
}
