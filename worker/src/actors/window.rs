//! The feed's decisions: which loader is asked for what, and in which order batches come out. Pure: no stream, no clock.

use std::collections::BTreeMap;

use proto::loader as wire;

use crate::compute::Batch;
use crate::itinerary::{Ask, Itinerary, Split};

/// Wrong batches for one ask before the data is at fault, not the loader.
const MOST_WRONG: u32 = 3;
/// Batches that one loader may owe; below what it accepts (`proto::MAX_ASKS`).
const MOST_OWED: usize = 48;

/// An ask to send to a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Which loader, by its place in the list.
    pub loader: usize,
    /// The ask's number.
    pub id: u64,
    /// What for.
    pub ask: Ask,
}

#[derive(Debug)]
struct Open {
    ask: Ask,
    /// Who owes it; `None` while no loader is there.
    loader: Option<usize>,
    wrong: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Loader {
    is_up: bool,
    owes: usize,
}

/// Asks that are open, batches that are ready, and the order of both.
#[derive(Debug)]
pub struct Window {
    itinerary: Itinerary,
    /// Credits: open asks and ready batches together.
    credits: usize,
    next_id: u64,
    /// The next batch to come out.
    head: u64,
    open: BTreeMap<u64, Open>,
    ready: BTreeMap<u64, (Ask, Batch)>,
    loaders: Vec<Loader>,
}

impl Window {
    /// A window of `credits` batches over an itinerary, with `loaders` loaders that are not there yet.
    pub fn new(itinerary: Itinerary, credits: usize, loaders: usize) -> Self {
        Self {
            itinerary,
            credits,
            next_id: 0,
            head: 0,
            open: BTreeMap::new(),
            ready: BTreeMap::new(),
            loaders: vec![Loader::default(); loaders],
        }
    }

    /// What was asked for and came, but was not taken: what a batch holds depends on the ask alone.
    pub fn into_ready(self) -> Vec<(Ask, Batch)> {
        self.ready.into_values().collect()
    }

    /// Spends the credits, first on batches that are there already. Those that are not wanted soon are dropped.
    pub fn begin_with(&mut self, mut kept: Vec<(Ask, Batch)>) {
        self.spend(|ask| {
            let place = kept.iter().position(|(kept, _)| *kept == ask)?;
            Some(kept.swap_remove(place).1)
        });
    }

    /// A loader's stream is open.
    pub fn up(&mut self, loader: usize) -> Vec<Sent> {
        self.loaders[loader] = Loader { is_up: true, owes: 0 };
        self.fill()
    }

    /// A loader's stream broke: what it owes goes to the others, or waits.
    pub fn down(&mut self, loader: usize) -> Vec<Sent> {
        self.loaders[loader] = Loader::default();
        for open in self.open.values_mut().filter(|open| open.loader == Some(loader)) {
            open.loader = None;
        }
        self.fill()
    }

    /// A batch came. A wrong one is asked for again, elsewhere if possible; `Err` when that happened too often.
    pub fn got(&mut self, loader: usize, batch: wire::Batch) -> Result<Vec<Sent>, String> {
        let id = batch.id;
        // Not asked of this loader (any more): an answer to an ask that went elsewhere meanwhile.
        let Some(open) = self.open.get_mut(&id).filter(|open| open.loader == Some(loader)) else {
            return Ok(Vec::new());
        };
        self.loaders[loader].owes -= 1;
        match check(open.ask, batch) {
            Ok(batch) => {
                let ask = open.ask;
                self.open.remove(&id);
                self.ready.insert(id, (ask, batch));
            }
            Err(problem) => {
                open.wrong += 1;
                open.loader = None;
                if open.wrong >= MOST_WRONG {
                    return Err(format!("{MOST_WRONG} wrong batches for the same clips: the last {problem}"));
                }
                tracing::warn!("a loader sent a wrong batch, it is asked for again: it {problem}");
                return Ok(self.fill_avoiding(Some(loader)));
            }
        }
        Ok(self.fill())
    }

    /// The next `count` batches in order, if they are all there.
    pub fn take(&mut self, count: usize) -> Option<(Vec<Batch>, Vec<Sent>)> {
        let last = self.head + count as u64;
        if !(self.head..last).all(|id| self.ready.contains_key(&id)) {
            return None;
        }
        let batches = (self.head..last).filter_map(|id| self.ready.remove(&id)).map(|(_, batch)| batch).collect();
        self.head = last;
        Some((batches, self.fill()))
    }

    /// Whether any loader's stream is open.
    pub fn has_loader(&self) -> bool {
        self.loaders.iter().any(|loader| loader.is_up)
    }

    /// Turns free credits into asks; one whose batch is at hand needs no loader.
    fn spend(&mut self, mut at_hand: impl FnMut(Ask) -> Option<Batch>) {
        while self.open.len() + self.ready.len() < self.credits
            && let Some(ask) = self.itinerary.next()
        {
            match at_hand(ask) {
                Some(batch) => {
                    self.ready.insert(self.next_id, (ask, batch));
                }
                None => {
                    self.open.insert(self.next_id, Open { ask, loader: None, wrong: 0 });
                }
            }
            self.next_id += 1;
        }
    }

    fn fill(&mut self) -> Vec<Sent> {
        self.fill_avoiding(None)
    }

    /// Spends the free credits, then gives every ask that nobody owes to the loader that owes least.
    fn fill_avoiding(&mut self, avoided: Option<usize>) -> Vec<Sent> {
        self.spend(|_| None);
        let mut sent = Vec::new();
        for (id, open) in self.open.iter_mut().filter(|(_, open)| open.loader.is_none()) {
            let Some(loader) = least_busy(&self.loaders, avoided) else { break };
            self.loaders[loader].owes += 1;
            open.loader = Some(loader);
            sent.push(Sent { loader, id: *id, ask: open.ask });
        }
        sent
    }
}

fn least_busy(loaders: &[Loader], avoided: Option<usize>) -> Option<usize> {
    let usable = |index: &usize| loaders[*index].is_up && loaders[*index].owes < MOST_OWED;
    let by_load = |index: &usize| (Some(*index) == avoided, loaders[*index].owes);
    (0..loaders.len()).filter(usable).min_by_key(by_load)
}

/// Checks everything that can be checked about a batch; says what is wrong with it.
pub fn check(ask: Ask, batch: wire::Batch) -> Result<Batch, String> {
    let clips = batch.labels.len();
    let found = crc32c::crc32c(&batch.pixels_nthwc);
    if found != batch.crc32c {
        return Err(format!("has the checksum {found:08x} instead of {:08x}", batch.crc32c));
    }
    let whole = match ask.split {
        Split::Train => clips == ask.count as usize,
        Split::Val => clips <= ask.count as usize,
    };
    if !whole || batch.positions.len() != clips {
        return Err(format!(
            "holds {clips} clips at {} positions; {} were asked for",
            batch.positions.len(),
            ask.count
        ));
    }
    let shape = [clips, batch.frames as usize, batch.height as usize, batch.width as usize, 3];
    let bytes = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    if bytes != Some(batch.pixels_nthwc.len()) {
        return Err(format!("holds {} bytes for the shape {shape:?}", batch.pixels_nthwc.len()));
    }
    let labels = batch.labels.into_iter().map(i64::from).collect();
    Ok(Batch { pixels_nthwc: batch.pixels_nthwc, shape, labels, keys: batch.keys })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::itinerary::Course;
    use cluster::plan::Plan;

    /// 4 steps of 2 lanes of 2 clips, then 2 held-out clips in one chunk.
    pub(crate) fn itinerary() -> Itinerary {
        let plan = Plan::new(1, 16, 4, 2).expect("the numbers fit");
        let course = Course { plan, epochs: 1, val_clips: 2, checkpoint_every_steps: 100, precise_bn_batches: 0 };
        Itinerary::new(course, 0..2, (0, 1), 0)
    }

    /// What a loader renders for an ask: pixels that tell the position.
    pub(crate) fn batch(id: u64, first: u64, count: u32) -> wire::Batch {
        let positions: Vec<u64> = (first..first + u64::from(count)).collect();
        let pixels: Vec<u8> = positions.iter().flat_map(|position| [*position as u8; 12]).collect();
        wire::Batch {
            id,
            frames: 1,
            height: 2,
            width: 2,
            labels: vec![0; count as usize],
            crc32c: crc32c::crc32c(&pixels),
            pixels_nthwc: pixels.into(),
            positions,
            ..wire::Batch::default()
        }
    }

    fn answer(sent: &Sent) -> wire::Batch {
        batch(sent.id, sent.ask.first, sent.ask.count)
    }

    fn ids(sent: &[Sent]) -> Vec<(usize, u64)> {
        sent.iter().map(|sent| (sent.loader, sent.id)).collect()
    }

    fn firsts(batches: &[Batch]) -> Vec<u8> {
        batches.iter().map(|batch| batch.pixels_nthwc[0]).collect()
    }

    #[test]
    fn no_more_than_the_credits_are_asked_for() {
        let mut window = Window::new(itinerary(), 3, 1);
        assert_eq!(ids(&window.up(0)), [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn a_ready_batch_holds_its_credit_until_it_is_taken() {
        let mut window = Window::new(itinerary(), 2, 1);
        let sent = window.up(0);
        assert_eq!(window.got(0, answer(&sent[0])), Ok(vec![]));
        let (batches, sent) = window.take(1).expect("ready");
        assert_eq!((firsts(&batches), ids(&sent)), (vec![0], vec![(0, 2)]));
    }

    #[test]
    fn batches_come_out_in_order_however_they_came_in() {
        let mut window = Window::new(itinerary(), 4, 1);
        let sent = window.up(0);
        for sent in sent.iter().rev() {
            window.got(0, answer(sent)).expect("good");
        }
        let (batches, _) = window.take(4).expect("all are ready");
        assert_eq!(firsts(&batches), [0, 2, 4, 6]);
    }

    #[test]
    fn what_is_there_already_is_not_asked_for_again_and_comes_out_without_a_loader() {
        let mut old = Window::new(itinerary(), 4, 1);
        let sent = old.up(0);
        for sent in &sent[1..] {
            old.got(0, answer(sent)).expect("good");
        }
        let mut window = Window::new(itinerary(), 3, 1);
        window.begin_with(old.into_ready());
        assert_eq!(ids(&window.up(0)), [(0, 0)], "the fourth is not wanted yet");
        window.got(0, answer(&sent[0])).expect("good");
        assert_eq!(firsts(&window.take(3).expect("ready").0), [0, 2, 4]);
        let mut window = Window::new(itinerary(), 2, 0);
        window.begin_with(
            sent[..2].iter().map(|sent| (sent.ask, check(sent.ask, answer(sent)).expect("good"))).collect(),
        );
        assert_eq!(firsts(&window.take(2).expect("no loader is needed").0), [0, 2]);
    }

    #[test]
    fn nothing_comes_out_before_all_of_it_is_there() {
        let mut window = Window::new(itinerary(), 4, 1);
        let sent = window.up(0);
        window.got(0, answer(&sent[1])).expect("good");
        assert!(window.take(2).is_none());
        window.got(0, answer(&sent[0])).expect("good");
        assert_eq!(firsts(&window.take(2).expect("ready").0), [0, 2]);
    }

    #[test]
    fn loaders_share_the_work() {
        let mut window = Window::new(itinerary(), 4, 2);
        assert_eq!(window.up(0).len(), 4);
        assert_eq!(window.down(0), []);
        assert_eq!(ids(&window.up(1)), [(1, 0), (1, 1), (1, 2), (1, 3)]);
        assert_eq!(ids(&window.up(0)), []);
        let (sent, mut both) = (window.down(1), 0);
        both += sent.iter().filter(|sent| sent.loader == 0).count();
        assert_eq!(both, 4);
    }

    #[test]
    fn what_a_broken_loader_owes_is_asked_for_elsewhere() {
        let mut window = Window::new(itinerary(), 4, 2);
        let sent = window.up(0);
        window.up(1);
        window.got(0, answer(&sent[0])).expect("good");
        assert_eq!(ids(&window.down(0)), [(1, 1), (1, 2), (1, 3)]);
        // Its late answers are somebody else's business now.
        assert_eq!(window.got(0, answer(&sent[1])), Ok(vec![]));
        assert!(window.take(2).is_none());
    }

    #[test]
    fn after_a_reconnect_everything_open_is_asked_for_again() {
        let mut window = Window::new(itinerary(), 3, 1);
        let first = ids(&window.up(0));
        assert_eq!(window.down(0), []);
        assert!(!window.has_loader());
        assert_eq!(ids(&window.up(0)), first);
    }

    #[test]
    fn a_wrong_batch_is_asked_for_at_another_loader() {
        let mut window = Window::new(itinerary(), 1, 2);
        let sent = window.up(0);
        window.up(1);
        let lie = wire::Batch { crc32c: 1, ..answer(&sent[0]) };
        assert_eq!(ids(&window.got(0, lie).expect("once is no fault")), [(1, 0)]);
    }

    #[test]
    fn three_wrong_batches_are_a_data_fault() {
        let mut window = Window::new(itinerary(), 1, 1);
        let sent = window.up(0);
        let lie = || wire::Batch { crc32c: 1, ..answer(&sent[0]) };
        assert!(window.got(0, lie()).is_ok() && window.got(0, lie()).is_ok());
        let fault = window.got(0, lie()).expect_err("the third");
        assert!(fault.contains("3 wrong batches") && fault.contains("checksum"), "{fault}");
    }

    #[test]
    fn a_batch_that_is_not_what_was_asked_for_is_wrong() {
        let train = Ask { split: Split::Train, first: 0, count: 2 };
        let good = batch(0, 0, 2);
        assert!(check(train, good.clone()).is_ok());
        let bad = [
            wire::Batch { labels: vec![0], ..good.clone() },
            wire::Batch { positions: vec![0], ..good.clone() },
            wire::Batch { frames: 2, ..good.clone() },
            wire::Batch { width: u32::MAX, height: u32::MAX, frames: u32::MAX, ..good },
        ];
        for batch in bad {
            assert!(check(train, batch.clone()).is_err(), "{batch:?}");
        }
    }

    #[test]
    fn a_held_out_chunk_may_lack_broken_clips() {
        let val = Ask { split: Split::Val, first: 0, count: 2 };
        assert_eq!(check(val, batch(0, 0, 1)).expect("one is left out").shape, [1, 1, 2, 2, 3]);
        let none = wire::Batch { positions: vec![], ..batch(0, 0, 0) };
        assert_eq!(check(val, none).expect("all are left out").shape[0], 0);
    }

    #[test]
    fn the_itinerary_ends() {
        let mut window = Window::new(itinerary(), 100, 1);
        assert_eq!(window.up(0).len(), 9);
    }
}
