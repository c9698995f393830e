//! What people see of a run: a bar on a terminal, lines elsewhere, a summary at the end.

mod bar;
mod lines;
pub mod metrics;
mod summary;
mod tally;
pub mod web;

use std::{io, io::IsTerminal, path::Path};

use cluster::{command::Notice, ledger::Ledger, recipe::Recipe};

use metrics::MetricsLog;
use web::Figures;

pub use tally::Tally;

/// Shows progress somewhere.
pub trait View: Send {
    /// A line that stays.
    fn say(&mut self, line: &str);
    /// The figures have changed.
    fn progress(&mut self, tally: &Tally);
    /// Nothing more comes.
    fn close(&mut self);
}

/// Hears what the run tells, counts, writes it down and shows it.
pub struct Dashboard {
    tally: Tally,
    metrics: MetricsLog,
    figures: Figures,
    view: Box<dyn View>,
    is_draining: bool,
}

impl Dashboard {
    /// A bar if stderr is a terminal, lines otherwise.
    pub fn on_stderr(recipe: &Recipe, ledger: &Ledger, folder: &Path) -> io::Result<Self> {
        let view: Box<dyn View> = if io::stderr().is_terminal() {
            Box::new(bar::Bar::new())
        } else {
            Box::new(lines::Lines::new(Box::new(io::stderr())))
        };
        Self::new(recipe, ledger, folder, view)
    }

    /// Shows the run in `view`; writes `metrics.jsonl` into `folder`.
    pub fn new(recipe: &Recipe, ledger: &Ledger, folder: &Path, view: Box<dyn View>) -> io::Result<Self> {
        let earlier = metrics::earlier_evaluations(folder);
        let metrics = MetricsLog::open(folder)?;
        let (tally, figures) = (Tally::new(recipe.clone(), ledger, earlier), Figures::of(ledger));
        Ok(Self { tally, metrics, figures, view, is_draining: false })
    }

    /// The figures, which this dashboard keeps up to date.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Takes one notice in.
    pub fn hear(&mut self, notice: &Notice) {
        let is_new = self.tally.hear(notice);
        self.metrics.hear(notice);
        self.figures.hear(notice);
        match notice {
            Notice::Step(_) => self.view.progress(&self.tally),
            Notice::Formed { .. } | Notice::Dropped(_) => {}
            Notice::Evaluated(evaluation) => self.view.say(&self.tally.evaluation_line(evaluation)),
            Notice::Committed(_) if !self.is_draining => {}
            Notice::Quarantined { .. } if !is_new => {}
            Notice::Draining { by } => {
                self.is_draining = true;
                self.view.say(&format!(
                    "stopping ({by}): the step is finished and a checkpoint written; a second Ctrl-C stops at once"
                ));
            }
            other => self.view.say(&other.to_string()),
        }
    }

    /// Ends the view and sums the run up.
    pub fn close(&mut self) -> String {
        self.view.close();
        self.tally.summary()
    }
}

#[cfg(test)]
mod tests;
