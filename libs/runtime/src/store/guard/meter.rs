//! What was asked of a store and how it answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many first bytes are remembered.
const REMEMBERED: usize = 512;
/// Fewer say nothing about the slowest.
const ENOUGH: usize = 32;
/// Of so many new ones each, the quantile for hedges is worked out anew.
const EVERY: u64 = 32;

/// What was done with a store since it was opened. All counts only grow: the difference of two tells of the time between.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Requests sent, retries and hedges among them.
    pub requests: u64,
    /// Requests that ended in an error for the caller.
    pub failures: u64,
    /// Attempts after a failed one.
    pub retries: u64,
    /// Attempts that were due and not made, because too many had failed.
    pub refused_retries: u64,
    /// Second requests for a slow read.
    pub hedges: u64,
    /// Of these, the ones that were answered first.
    pub won_hedges: u64,
    /// Bytes of bodies handed on.
    pub read_bytes: u64,
    /// Bytes of objects stored.
    pub written_bytes: u64,
    /// Time in which at least one read was under way. Of a folder, what is read after its file was opened is not in it.
    pub reading: Duration,
    /// Time to the first byte, median of the last 512 reads; zero before the first.
    pub first_byte_p50: Duration,
    /// The same, of which one read in twenty is slower.
    pub first_byte_p95: Duration,
    /// The same, of which one read in a hundred is slower.
    pub first_byte_p99: Duration,
}

impl Figures {
    /// Those of two guards of one place: all counts together, and the slower times to the first byte.
    pub fn with(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failures: self.failures + other.failures,
            retries: self.retries + other.retries,
            refused_retries: self.refused_retries + other.refused_retries,
            hedges: self.hedges + other.hedges,
            won_hedges: self.won_hedges + other.won_hedges,
            read_bytes: self.read_bytes + other.read_bytes,
            written_bytes: self.written_bytes + other.written_bytes,
            reading: self.reading + other.reading,
            first_byte_p50: self.first_byte_p50.max(other.first_byte_p50),
            first_byte_p95: self.first_byte_p95.max(other.first_byte_p95),
            first_byte_p99: self.first_byte_p99.max(other.first_byte_p99),
        }
    }

    /// Bytes a second while reading; zero where nothing was read.
    pub fn read_bytes_per_second(&self) -> f64 {
        if self.reading.is_zero() { 0.0 } else { self.read_bytes as f64 / self.reading.as_secs_f64() }
    }
}

/// As one line of a log.
impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{} requests ({} repeated, {} hedged, {} failed), {:.1} MB read at {:.1} MB/s, {:.1} MB written, first byte \
             {:.1} ms (p95 {:.1}, p99 {:.1})",
            self.requests,
            self.retries,
            self.hedges,
            self.failures,
            self.read_bytes as f64 / 1e6,
            self.read_bytes_per_second() / 1e6,
            self.written_bytes as f64 / 1e6,
            millis(self.first_byte_p50),
            millis(self.first_byte_p95),
            millis(self.first_byte_p99),
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    refused_retries: AtomicU64,
    hedges: AtomicU64,
    won_hedges: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reading: Mutex<Reading>,
    first_bytes: Mutex<FirstBytes>,
}

/// When at least one read was under way.
#[derive(Debug, Default)]
struct Reading {
    under_way: u64,
    since: Option<Instant>,
    before: Duration,
}

#[derive(Debug, Default)]
struct FirstBytes {
    last: Vec<Duration>,
    seen: u64,
    p95: Option<Duration>,
}

/// A read under way, until dropped.
pub(super) struct UnderWay<'a>(&'a Meter);

impl Meter {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused_retry(&self) {
        self.refused_retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hedge(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn won_hedge(&self) {
        self.won_hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn reading(&self) -> UnderWay<'_> {
        let mut reading = locked(&self.reading);
        reading.under_way += 1;
        reading.since.get_or_insert_with(Instant::now);
        UnderWay(self)
    }

    pub(super) fn first_byte(&self, after: Duration) {
        let mut times = locked(&self.first_bytes);
        let at = times.seen as usize % REMEMBERED;
        if times.last.len() < REMEMBERED {
            times.last.push(after)
        } else {
            times.last[at] = after
        }
        times.seen += 1;
        if times.seen.is_multiple_of(EVERY) && times.last.len() >= ENOUGH {
            let mut sorted = times.last.clone();
            sorted.sort_unstable();
            times.p95 = Some(quantile(&sorted, 0.95));
        }
    }

    /// What 19 of 20 first bytes keep within, once enough were seen.
    pub(super) fn usual_first_byte(&self) -> Option<Duration> {
        locked(&self.first_bytes).p95
    }

    pub(super) fn figures(&self) -> Figures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut sorted = locked(&self.first_bytes).last.clone();
        sorted.sort_unstable();
        let reading = locked(&self.reading);
        Figures {
            requests: of(&self.requests),
            failures: of(&self.failures),
            retries: of(&self.retries),
            refused_retries: of(&self.refused_retries),
            hedges: of(&self.hedges),
            won_hedges: of(&self.won_hedges),
            read_bytes: of(&self.read_bytes),
            written_bytes: of(&self.written_bytes),
            reading: reading.before + reading.since.map_or(Duration::ZERO, |since| since.elapsed()),
            first_byte_p50: quantile(&sorted, 0.5),
            first_byte_p95: quantile(&sorted, 0.95),
            first_byte_p99: quantile(&sorted, 0.99),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut reading = locked(&self.0.reading);
        reading.under_way -= 1;
        if reading.under_way == 0
            && let Some(since) = reading.since.take()
        {
            reading.before += since.elapsed();
        }
    }
}

/// A panic of another holder leaves numbers that are off by one at most.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn quantile(sorted: &[Duration], at: f64) -> Duration {
    let rank = (sorted.len() as f64 * at).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
