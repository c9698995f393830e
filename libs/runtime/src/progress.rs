//! A bar on a terminal, a line now and then elsewhere; both with rate and time left.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Without a terminal a line is told at each tenth, and when none was for this long.
const SILENCE: Duration = Duration::from_secs(60);

/// How far a long command is.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    /// Without a terminal: the tenths that were told, and when.
    told: Option<(u64, Instant)>,
    start: Instant,
    /// What was done before the start.
    before: u64,
}

impl Progress {
    /// Of `total` things; `what` is what happens to them.
    pub fn new(what: &str, total: u64) -> Self {
        Self::resumed(what, total, 0)
    }

    /// Of `total` things, some of them done by an earlier run: the rate counts from here.
    pub fn resumed(what: &str, total: u64, done: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(done);
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left");
        bar.set_style(style.expect("the template is a constant"));
        bar.set_message(what.to_owned());
        bar.reset_eta();
        let start = Instant::now();
        let told = (!std::io::stderr().is_terminal()).then_some((done * 10 / total.max(1), start));
        if done > 0 {
            tracing::info!("{what}: {done} of {total} are done already");
        }
        Self { bar, what: what.to_owned(), told, start, before: done }
    }

    /// `n` more are done.
    pub fn add(&mut self, n: u64) {
        self.bar.inc(n);
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0).max(1));
        let tenths = done * 10 / total;
        if let Some((told, at)) = &mut self.told
            && (tenths > *told || at.elapsed() > SILENCE)
        {
            (*told, *at) = (tenths, Instant::now());
            tracing::info!("{}: {}", self.what, line((done, total), done - self.before, self.start.elapsed()));
        }
    }
}

/// `3 of 10, 1.5/s, 5 seconds left`.
fn line((done, total): (u64, u64), since_start: u64, elapsed: Duration) -> String {
    let a_second = since_start as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = total.saturating_sub(done) as f64 / a_second.max(1e-9);
    let left = HumanDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
    if done < total { format!("{done} of {total}, {a_second:.1}/s, {left} left") } else { format!("{done} of {total}") }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_what_this_run_has_done() {
        assert_eq!(line((60, 100), 10, Duration::from_secs(5)), "60 of 100, 2.0/s, 20 seconds left");
        assert_eq!(line((100, 100), 10, Duration::from_secs(5)), "100 of 100");
    }
}
