//! Trying again: growing pauses, and a budget after which the last error counts.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// How long to pause between attempts, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// No pause is longer; each doubles until here.
    pub most: Duration,
    /// No attempt starts later than this after the first one.
    pub budget: Duration,
}

impl Backoff {
    /// The pause after failure number `failures` (from 1), without jitter.
    pub fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        (self.first * 2u32.pow(doublings)).min(self.most)
    }

    /// [`Self::pause`] lengthened by up to a quarter, so that many clients do not come back together.
    pub fn jittered(&self, failures: u32) -> Duration {
        let random = RandomState::new().hash_one(failures) % 256;
        let pause = self.pause(failures);
        pause + pause.mul_f64(random as f64 / 1024.0)
    }
}

/// The budget is spent, or the error is one that does not pass.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} ({attempts} attempts in {:.1} s)", elapsed.as_secs_f32())]
pub struct GaveUp<E: std::error::Error + 'static> {
    /// What was attempted, e.g. `reach the coordinator at http://…`.
    pub what: String,
    /// How often.
    pub attempts: u32,
    /// For how long.
    pub elapsed: Duration,
    /// What the last attempt said.
    #[source]
    pub last: E,
}

/// Calls `attempt` until it succeeds, fails with an error that is not `transient`, or the budget is spent.
pub async fn retry<T, E, F, A>(
    what: &str,
    backoff: Backoff,
    transient: fn(&E) -> bool,
    mut attempt: A,
) -> Result<T, GaveUp<E>>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    let start = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let last = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = backoff.jittered(attempts);
        let elapsed = start.elapsed();
        if !transient(&last) || elapsed + pause > backoff.budget {
            return Err(GaveUp { what: what.to_owned(), attempts, elapsed, last });
        }
        tracing::debug!("can't {what} yet ({last}); again in {pause:.1?}");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1), budget: Duration::from_secs(10) };

    #[test]
    fn pauses_double_up_to_the_most() {
        let pauses: Vec<u128> = (1..=6).map(|failures| BACKOFF.pause(failures).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn jitter_adds_at_most_a_quarter() {
        for failures in 1..50 {
            let (plain, jittered) = (BACKOFF.pause(failures), BACKOFF.jittered(failures));
            assert!(jittered >= plain && jittered <= plain.mul_f64(1.25), "{plain:?} {jittered:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_succeeds_after_failures() {
        let mut left = 3;
        let got = retry(
            "dial",
            BACKOFF,
            |_| true,
            || {
                left -= 1;
                let outcome = if left == 0 { Ok("here") } else { Err(Error::other("away")) };
                async move { outcome }
            },
        )
        .await;
        assert_eq!(got.expect("third attempt"), "here");
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_when_the_budget_is_spent() {
        let start = Instant::now();
        let error =
            retry("dial", BACKOFF, |_| true, || async { Err::<(), _>(Error::other("away")) }).await.expect_err("never");
        assert!(error.attempts > 5 && start.elapsed() <= BACKOFF.budget, "{error}");
        assert!(error.to_string().starts_with("can't dial ("), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_does_not_pass_is_not_tried_again() {
        let refused = |error: &Error| error.kind() != ErrorKind::PermissionDenied;
        let error =
            retry("read", BACKOFF, refused, || async { Err::<(), _>(Error::from(ErrorKind::PermissionDenied)) })
                .await
                .expect_err("refused");
        assert_eq!(error.attempts, 1);
    }
}
