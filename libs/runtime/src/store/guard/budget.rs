//! How many extra requests a store may be sent: so many for each that succeeded, so that trouble does not multiply itself.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A bucket of tokens: each extra request takes one.
#[derive(Debug)]
pub(super) struct Budget {
    most: f64,
    by_success: f64,
    by_second: f64,
    /// Tokens there were at that time.
    left: Mutex<(f64, Instant)>,
}

impl Budget {
    /// For retries: a hundred at once, then one for every ten successes and one a second. Of a store that is away for long,
    /// each request is asked for once, and a steady trickle repeated.
    pub(super) fn of_retries() -> Self {
        Self::new(100.0, 0.1, 1.0)
    }

    /// For hedges: one for every twenty reads.
    pub(super) fn of_hedges() -> Self {
        Self::new(10.0, 0.05, 0.0)
    }

    fn new(most: f64, by_success: f64, by_second: f64) -> Self {
        Self { most, by_success, by_second, left: Mutex::new((most, Instant::now())) }
    }

    /// A request succeeded.
    pub(super) fn earn(&self) {
        self.change(|left| (left + self.by_success, ()));
    }

    /// Takes a token if there is one.
    pub(super) fn spend(&self) -> bool {
        self.change(|left| if left >= 1.0 { (left - 1.0, true) } else { (left, false) })
    }

    fn change<T>(&self, to: impl FnOnce(f64) -> (f64, T)) -> T {
        // A panic of another holder can't leave two numbers half-written.
        let mut held = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let grown = held.0 + self.by_second * now.duration_since(held.1).as_secs_f64();
        let (left, outcome) = to(grown.min(self.most));
        *held = (left.min(self.most), now);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend_all(budget: &Budget) -> usize {
        std::iter::from_fn(|| budget.spend().then_some(())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_spent_and_earned_by_successes_and_by_time() {
        let budget = Budget::of_retries();
        assert_eq!(spend_all(&budget), 100);
        (0..25).for_each(|_| budget.earn());
        assert_eq!(spend_all(&budget), 2);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(spend_all(&budget), 7);
        tokio::time::advance(Duration::from_secs(7000)).await;
        assert_eq!(spend_all(&budget), 100, "no more than it holds");
    }

    #[tokio::test(start_paused = true)]
    async fn hedges_are_earned_by_successes_alone() {
        let budget = Budget::of_hedges();
        assert_eq!(spend_all(&budget), 10);
        tokio::time::advance(Duration::from_secs(7000)).await;
        assert_eq!(spend_all(&budget), 0);
        (0..41).for_each(|_| budget.earn());
        assert_eq!(spend_all(&budget), 2);
    }
}
