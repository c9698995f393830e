//! A bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// How far a long command is.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    /// Without a terminal: the tenths that were told.
    told: Option<u64>,
}

impl Progress {
    /// Of `total` things; `what` is what happens to them.
    pub fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left");
        bar.set_style(style.expect("the template is a constant"));
        bar.set_message(what.to_owned());
        let told = (!std::io::stderr().is_terminal()).then_some(0);
        Self { bar, what: what.to_owned(), told }
    }

    /// `n` more are done.
    pub fn add(&mut self, n: u64) {
        self.bar.inc(n);
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0).max(1));
        let tenths = done * 10 / total;
        if let Some(told) = &mut self.told
            && tenths > *told
        {
            *told = tenths;
            tracing::info!("{}: {done} of {total}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
