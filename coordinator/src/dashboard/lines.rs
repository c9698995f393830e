//! Plain lines, for logs and pipes.

use std::{io::Write, time::Duration};

use tokio::time::Instant;

use super::{Tally, View};

/// Time between two lines of figures.
const INTERVAL: Duration = Duration::from_secs(5);

/// Writes lines; figures at intervals only.
pub struct Lines {
    out: Box<dyn Write + Send>,
    last: Option<Instant>,
}

impl Lines {
    /// Lines into `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, last: None }
    }
}

impl View for Lines {
    fn say(&mut self, line: &str) {
        // Whoever reads the lines may go away; the run stays.
        let _ = writeln!(self.out, "{line}");
    }

    fn progress(&mut self, tally: &Tally) {
        let is_last = tally.total_steps() == Some(tally.step());
        if is_last || self.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.last = Some(Instant::now());
            let total = tally.total_steps().map_or_else(String::new, |total| format!("/{total}"));
            self.say(&format!("step {}{total} · {}", tally.step(), tally.figures()));
        }
    }

    fn close(&mut self) {}
}
