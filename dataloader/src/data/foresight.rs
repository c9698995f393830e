//! What workers will ask next, guessed from what they asked: a run goes through its positions in order.

use std::collections::VecDeque;
use std::ops::Range;

/// Asks that are looked back at.
const LOOK_BACK: usize = 64;
/// So many must be there before anything is guessed.
const LEAST: usize = 4;
/// Positions that are guessed at most.
const MOST_AHEAD: u64 = 1024;

/// The latest training asks of one run, of all its workers.
#[derive(Debug, Default)]
pub struct Foresight {
    recent: VecDeque<Range<u64>>,
    /// Where the last guess ended.
    guessed: u64,
}

impl Foresight {
    /// Notes an ask, and guesses which positions come behind all that were asked: as many as there were, less those that
    /// were guessed before. Nothing is guessed where others serve a part of the run: theirs would be read in vain.
    pub fn saw(&mut self, asked: Range<u64>) -> Range<u64> {
        if self.recent.len() == LOOK_BACK {
            self.recent.pop_front();
        }
        self.recent.push_back(asked);
        let first = self.recent.iter().map(|ask| ask.start).min().unwrap_or_default();
        let last = self.recent.iter().map(|ask| ask.end).max().unwrap_or_default();
        let (span, held) = (last - first, self.recent.iter().map(|ask| ask.end - ask.start).sum::<u64>());
        // Workers are not equally far: some gaps are about to be filled.
        if self.recent.len() < LEAST || held < span - span / 4 {
            return last..last;
        }
        let end = last.saturating_add(span.min(MOST_AHEAD));
        // A run that was set back is guessed anew.
        let start = if self.guessed > end { last } else { self.guessed.max(last) };
        self.guessed = end;
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is guessed over some asks, put together.
    fn guessed(foresight: &mut Foresight, firsts: impl Iterator<Item = u64>) -> Vec<u64> {
        firsts.flat_map(|first| foresight.saw(first..first + 4)).collect()
    }

    #[test]
    fn what_follows_is_guessed_once_and_in_order() {
        let guessed = guessed(&mut Foresight::default(), (0..100).map(|n| n * 4));
        assert_eq!(guessed, (16..656).collect::<Vec<_>>(), "from the fourth ask on, 64 asks ahead");
    }

    #[test]
    fn two_workers_that_are_not_equally_far_are_one_run() {
        // Lanes by turns, and one of them eight asks behind.
        let asks = (0..60).flat_map(|n| [(2 * n + 16) * 8, (2 * n + 1) * 8]);
        let mut foresight = Foresight::default();
        let count = asks.map(|first| foresight.saw(first..first + 8).count()).sum::<usize>();
        assert!(count > 400, "{count} positions");
    }

    #[test]
    fn nothing_is_guessed_where_another_loader_has_its_part() {
        assert_eq!(guessed(&mut Foresight::default(), (0..100).map(|n| n * 8)), [0; 0]);
    }

    #[test]
    fn a_run_that_is_set_back_is_guessed_anew() {
        let mut foresight = Foresight::default();
        guessed(&mut foresight, (1000..1100).map(|n| n * 4));
        let again = guessed(&mut foresight, (0..100).map(|n| n * 4));
        assert_eq!(again.last(), Some(&655));
    }
}
