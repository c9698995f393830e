//! The run in figures, as `/metrics` on the port of the services tells it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use cluster::{command::Notice, ledger::Ledger, report::StepReport};
use runtime::health::{Health, Page};

/// The run in figures, as `/metrics` tells it. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    total_steps: u64,
    generation: u64,
    workers: usize,
    loaders: usize,
    is_training: bool,
    step: Option<StepReport>,
    clips: u64,
    committed: Option<(u64, f64)>,
    held_out_top1: Option<f32>,
    set_backs: u64,
    quarantined: u64,
}

impl Figures {
    /// What the run's record says before anything happens. When a checkpoint was committed it does not say: to be gone on
    /// with is as good as new.
    pub fn of(ledger: &Ledger) -> Self {
        let committed = ledger.last_commit().map(|commit| (commit.step, now()));
        let total_steps = ledger.total_steps().unwrap_or_default();
        Self(Arc::new(Mutex::new(Known { total_steps, committed, ..Known::default() })))
    }

    /// Takes one notice in.
    pub fn hear(&self, notice: &Notice) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Planned { total_steps, .. } => known.total_steps = *total_steps,
            Notice::Generation { assembly, .. } => {
                known.generation = assembly.generation.0;
                known.workers = assembly.workers.len();
                known.loaders = assembly.loaders.len();
            }
            Notice::Formed { .. } => known.is_training = true,
            Notice::Step(report) => {
                known.clips += u64::from(report.clips);
                known.step = Some(report.clone());
            }
            Notice::Evaluated(evaluation) => known.held_out_top1 = Some(evaluation.top1),
            Notice::Committed(commit) => known.committed = Some((commit.step, now())),
            Notice::Quarantined { .. } => known.quarantined += 1,
            Notice::SetBack { .. } => {
                known.set_backs += 1;
                known.is_training = false;
            }
            Notice::Waiting { .. } | Notice::Draining { .. } => known.is_training = false,
            Notice::Dropped(_) | Notice::Warning(_) => {}
        }
    }

    /// All that is known. What no step has told yet is left out.
    pub fn page(&self) -> Page {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::default();
        page.gauge("vared_steps_planned", "Steps of the whole run.", known.total_steps);
        page.gauge("vared_generation", "Number of the present generation.", known.generation);
        page.gauge("vared_workers", "Workers in the present generation.", known.workers);
        page.gauge("vared_loaders", "Loaders in the present generation.", known.loaders);
        page.gauge("vared_training", "Whether a generation steps: 1 or 0.", u8::from(known.is_training));
        page.counter("vared_clips_total", "Clips trained on since this start.", known.clips);
        page.counter("vared_set_backs_total", "Generations that failed since this start.", known.set_backs);
        page.counter("vared_quarantined_clips_total", "Broken clips found since this start.", known.quarantined);
        if let Some(step) = &known.step {
            steps(&mut page, step);
        }
        if let Some((step, time)) = known.committed {
            page.gauge("vared_committed_step", "Steps in the last checkpoint.", step);
            page.gauge("vared_commit_timestamp_seconds", "When it was committed, in seconds since 1970.", time);
        }
        if let Some(top1) = known.held_out_top1 {
            page.gauge("vared_held_out_top1", "Share classified correctly at the last evaluation.", top1);
        }
        page
    }
}

impl Health for Figures {
    /// It takes members in as soon as it serves; whether a run goes on says `vared_training`.
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn metrics(&self) -> Page {
        self.page()
    }
}

fn steps(page: &mut Page, step: &StepReport) {
    let seconds = step.seconds;
    let all = seconds.data_wait + seconds.compute + seconds.reduce;
    page.gauge("vared_step", "Steps applied.", step.step);
    page.gauge("vared_loss", "Mean loss of the last step.", step.loss);
    page.gauge("vared_top1", "Share classified correctly in the last step.", step.top1);
    page.gauge("vared_gmacs", "GMACs a clip that skipping inference would compute, all in.", step.gmacs);
    page.gauge("vared_gmacs_backbone", "GMACs a clip of the backbone.", step.gmacs_backbone);
    page.gauge("vared_learning_rate", "Learning rate of the last step.", step.learning_rate);
    page.gauge(
        "vared_data_wait_ratio",
        "Share of the last step that its workers waited for clips: above 0.1, add loaders.",
        if all > 0.0 { seconds.data_wait / all } else { 0.0 },
    );
    page.gauges("vared_step_seconds", "Where the last step's time went.")
        .of(&[("part", "data_wait")], seconds.data_wait)
        .of(&[("part", "compute")], seconds.compute)
        .of(&[("part", "reduce")], seconds.reduce);
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::{
        ids::GenerationNumber,
        ledger::Entry,
        report::{Commit, DataSet, StepSeconds},
    };

    fn text(figures: &Figures) -> String {
        figures.page().text().to_owned()
    }

    fn step(seconds: StepSeconds) -> Notice {
        Notice::Step(StepReport {
            generation: GenerationNumber(2),
            step: 7,
            loss: 1.25,
            top1: 0.5,
            gmacs: 0.5,
            gmacs_backbone: 1.0,
            learning_rate: 0.05,
            clips: 32,
            seconds,
        })
    }

    #[test]
    fn steps_are_counted_and_the_wait_for_data_is_a_share() {
        let figures = Figures::default();
        assert!(!text(&figures).contains("vared_loss"), "no step has told it yet");
        for _ in 0..2 {
            figures.hear(&step(StepSeconds { data_wait: 1.0, compute: 2.0, reduce: 1.0 }));
        }
        let text = text(&figures);
        for line in ["vared_step 7", "vared_clips_total 64", "vared_data_wait_ratio 0.25", "vared_loss 1.25"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(text.contains("vared_step_seconds{part=\"compute\"} 2\n"), "{text}");
    }

    #[test]
    fn a_set_back_ends_training_until_the_next_generation_is_formed() {
        let figures = Figures::default();
        let training = || text(&figures).contains("vared_training 1");
        figures.hear(&Notice::Formed { generation: GenerationNumber(1), step: 0 });
        assert!(training());
        figures.hear(&Notice::SetBack {
            cause: "worker-1 is gone".to_owned(),
            generation: GenerationNumber(1),
            count: 1,
            of: 3,
        });
        assert!(!training() && text(&figures).contains("vared_set_backs_total 1"));
    }

    #[test]
    fn a_run_that_is_gone_on_with_knows_its_length_and_its_checkpoint() {
        let data_set = DataSet { train_clips: 8, val_clips: 1, digest: "d".to_owned(), classes: vec!["a".to_owned()] };
        let commit = Commit {
            step: 20,
            generation: GenerationNumber(1),
            prefix: "p".to_owned(),
            manifest_digest: "m".to_owned(),
        };
        let generation =
            Entry::Generation { number: GenerationNumber(1), workers: Vec::new(), restore: None, source: None };
        let (run, opened) = ("r".parse().expect("a good name"), Entry::Opened { coordinator: "c".to_owned() });
        let created = Entry::Created { run, recipe: "text".to_owned(), recipe_digest: "t".to_owned() };
        let entries =
            [created, opened, Entry::Planned { data_set, total_steps: 90 }, generation, Entry::Committed(commit)];
        let ledger = Ledger::replay(&entries).expect("in order");
        let text = text(&Figures::of(&ledger));
        assert!(text.contains("vared_steps_planned 90\n") && text.contains("vared_committed_step 20\n"), "{text}");
    }
}
