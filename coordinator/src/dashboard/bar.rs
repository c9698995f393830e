//! The bar on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Tally, View};

/// A progress bar with the figures beside it.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar on stderr; it appears with the first figures.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:20.cyan} {pos}/{len} · {wide_msg}")
            .expect("a constant template")
            .progress_chars("━╸ ");
        Self { bar: ProgressBar::new(0).with_style(style) }
    }
}

impl View for Bar {
    fn say(&mut self, line: &str) {
        self.bar.println(line);
    }

    fn progress(&mut self, tally: &Tally) {
        if let Some(total) = tally.total_steps() {
            self.bar.set_length(total);
        }
        self.bar.set_message(tally.figures());
        self.bar.set_position(tally.step());
    }

    fn close(&mut self) {
        self.bar.abandon();
    }
}
