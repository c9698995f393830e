//! What is read before it is wanted, and in which order: the one place that decides it.
//!
//! Asks come in the order in which workers need their batches, and clips in the order of their positions; so are they
//! read, side by side up to a number of requests and of bytes. What was read lies here until it is wanted, or its ask is
//! over. What workers will ask next, as far as it can be guessed, comes behind all that they have asked, and goes first where
//! room is short. Nothing here changes a batch: a file on the shelf was checked like any other, and one that is not here is read
//! when it is wanted, past all that wait.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::fetch::ViewRef;

/// Requests for what is not wanted yet. With those for what is, no more than 256.
pub const REQUESTS_AHEAD: usize = 240;

/// Files that are looked at for neighbours of the first.
const LOOK_BEHIND: usize = 64;
/// Bytes between two files that are rather read than asked for one by one: the members of a tar have headers.
const MOST_GAP_BYTES: u64 = 64 << 10;
/// A request is no longer than this, unless one file is.
const MOST_REQUEST_BYTES: u64 = 8 << 20;

/// Names a file: the clip, and of an excerpt also what it shows.
pub(super) type FileKey = ((u64, u64), Option<(u64, Option<u64>)>);

/// A file, and the room that it takes until it is taken away.
pub(super) struct Held {
    pub(super) file: Bytes,
    pub(super) _room: OwnedSemaphorePermit,
}

/// One file to be read.
pub(super) struct Errand {
    pub(super) view: ViewRef,
    pub(super) room: OwnedSemaphorePermit,
    pub(super) to: oneshot::Sender<Held>,
}

/// Files to be read in one request.
pub(super) struct Trip {
    /// Of one object. Several are whole files.
    pub(super) errands: Vec<Errand>,
    /// Held while it lasts.
    pub(super) _request: OwnedSemaphorePermit,
}

/// Files wait in order of need, each with its name.
type Queue = VecDeque<(FileKey, ViewRef)>;

/// Owns what nobody has asked for yet. Asks count from 1.
const GUESS: u64 = 0;

/// A file's place.
struct Place {
    ask: u64,
    /// None: nobody has gone for it yet.
    file: Option<oneshot::Receiver<Held>>,
}

/// The shelf and the queue before it.
pub(super) struct Shelf {
    asked: Queue,
    guessed: Queue,
    places: HashMap<FileKey, Place>,
    room_kib: usize,
    room: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

impl Shelf {
    /// An empty shelf for so many bytes.
    pub(super) fn new(room_bytes: u64) -> Self {
        let room_kib = ((room_bytes >> 10) as usize).min(Semaphore::MAX_PERMITS);
        let (room, requests) = (Arc::new(Semaphore::new(room_kib)), Arc::new(Semaphore::new(REQUESTS_AHEAD)));
        let (asked, guessed) = (Queue::new(), Queue::new());
        Self { asked, guessed, places: HashMap::new(), room_kib, room, requests }
    }

    /// Puts the files of an ask at the end of the queue.
    pub(super) fn expect(&mut self, ask: u64, views: Vec<ViewRef>) {
        if self.room_kib == 0 {
            return;
        }
        for view in views {
            let key = view.file();
            let place = self.places.entry(key).or_insert(Place { ask: GUESS, file: None });
            if place.ask == GUESS {
                place.ask = ask;
                if place.file.is_none() {
                    self.asked.push_back((key, view));
                }
            }
        }
    }

    /// Puts files behind all that were asked for.
    pub(super) fn guess(&mut self, views: Vec<ViewRef>) {
        if self.room_kib == 0 {
            return;
        }
        for view in views {
            let key = view.file();
            self.places.entry(key).or_insert_with(|| {
                self.guessed.push_back((key, view));
                Place { ask: GUESS, file: None }
            });
        }
    }

    /// Somebody wants a file now: it comes if it was gone for; if not, nobody will any more.
    pub(super) fn take(&mut self, key: &FileKey) -> Option<oneshot::Receiver<Held>> {
        self.places.remove(key)?.file
    }

    /// Bytes that are here or on their way, and requests on their way.
    pub(super) fn busy(&self) -> (u64, usize) {
        let free = |semaphore: &Semaphore| semaphore.available_permits();
        (((self.room_kib - free(&self.room)) as u64) << 10, REQUESTS_AHEAD - free(&self.requests))
    }

    /// An ask is over: what it left is thrown away.
    pub(super) fn forget(&mut self, ask: u64) {
        self.places.retain(|_, place| place.ask != ask);
    }

    /// The next files to go for, if there is room for the first of them.
    pub(super) fn next(&mut self) -> Option<Trip> {
        let mut asked = std::mem::take(&mut self.asked);
        let mut trip = self.first_of(&mut asked);
        if trip.is_none() && !asked.is_empty() && self.requests.available_permits() > 0 {
            // What was guessed makes room for what was asked.
            self.forget(GUESS);
            self.guessed.clear();
            trip = self.first_of(&mut asked);
        }
        self.asked = asked;
        if trip.is_some() || !self.asked.is_empty() {
            return trip;
        }
        let mut guessed = std::mem::take(&mut self.guessed);
        let trip = self.first_of(&mut guessed);
        self.guessed = guessed;
        trip
    }

    fn first_of(&mut self, queue: &mut Queue) -> Option<Trip> {
        loop {
            let (key, view) = queue.front()?;
            let (key, kib) = (*key, kib_of(view));
            let is_waiting = self.is_waiting(&key);
            if is_waiting && kib <= self.room_kib {
                let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
                let mut errands = vec![self.send(&queue[0])?];
                errands.extend(self.neighbours(queue).into_iter().map_while(|n| self.send(&queue[n])));
                queue.pop_front();
                return Some(Trip { errands, _request: request });
            }
            // Taken meanwhile, or larger than all the room.
            queue.pop_front();
            if is_waiting {
                self.places.remove(&key);
            }
        }
    }

    fn is_waiting(&self, key: &FileKey) -> bool {
        self.places.get(key).is_some_and(|place| place.file.is_none())
    }

    /// Sends for a file, if there is room for it.
    fn send(&mut self, (key, view): &(FileKey, ViewRef)) -> Option<Errand> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib_of(view) as u32).ok()?;
        let (to, file) = oneshot::channel();
        self.places.get_mut(key)?.file = Some(file);
        Some(Errand { view: view.clone(), room, to })
    }

    /// Where in the queue the files are that lie beside the first, which is on its way.
    fn neighbours(&self, queue: &Queue) -> Vec<usize> {
        let (key, first) = &queue[0];
        // Excerpts are put together of several ranges that only their outlines tell.
        if key.1.is_some() {
            return Vec::new();
        }
        let is_near = |(key, view): &(FileKey, ViewRef)| {
            key.1.is_none()
                && key.0.0 == first.clip.part.id
                && view.clip.clip().object == first.clip.clip().object
                && self.is_waiting(key)
        };
        let near = (1..queue.len().min(LOOK_BEHIND)).filter(|&n| is_near(&queue[n]));
        let mut places = vec![0];
        places.extend(near);
        let ranges: Vec<_> = places.iter().map(|&n| queue[n].1.clip.clip().range_bytes()).collect();
        side_by_side(&ranges).into_iter().map(|n| places[n]).collect()
    }
}

/// Room is counted in KiB: a semaphore counts to `u32::MAX` at once.
fn kib_of(view: &ViewRef) -> usize {
    view.clip.clip().length_bytes.div_ceil(1024) as usize
}

/// Which of the ranges make one request with the first, as they lie from there.
fn side_by_side(ranges: &[Range<u64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|&n| ranges[n].start);
    let home = order.iter().position(|&n| n == 0).unwrap_or_default();
    let (before, after) = (order[..home].iter().rev(), order[home..].iter().skip(1));
    let mut all = ranges.first().cloned().unwrap_or_default();
    let mut chosen = Vec::new();
    let mut join = |n: usize| {
        let next = &ranges[n];
        let gap = next.start.saturating_sub(all.end).max(all.start.saturating_sub(next.end));
        let joined = all.start.min(next.start)..all.end.max(next.end);
        let fits = gap <= MOST_GAP_BYTES && joined.end - joined.start <= MOST_REQUEST_BYTES;
        if fits {
            all = joined;
            chosen.push(n);
        }
        fits
    };
    let _ = after.copied().all(&mut join);
    let _ = before.copied().all(&mut join);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_on_both_sides_join_until_a_gap_or_the_length() {
        let kib = |from: u64, to: u64| from << 10..to << 10;
        let ranges = [kib(1000, 1100), kib(2000, 2100), kib(1101, 1200), kib(900, 999), kib(700, 800), kib(1200, 1210)];
        assert_eq!(side_by_side(&ranges), [2, 5, 3], "700 is too far from 900, and 2000 from 1210");
        let long = [kib(0, 5000), kib(5000, 8000), kib(8000, 9000)];
        assert_eq!(side_by_side(&long), [1], "together they would be longer than a request may be");
        assert_eq!(side_by_side(&ranges[..1]), [0_usize; 0]);
    }
}
