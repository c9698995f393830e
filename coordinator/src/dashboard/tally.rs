//! The figures of a run, as far as this process has seen it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use cluster::{
    command::Notice,
    ledger::Ledger,
    plan::Plan,
    recipe::Recipe,
    report::{Commit, Evaluation, StepReport},
};
use tokio::time::Instant;

/// Steps that speed is averaged over.
const WINDOW: usize = 32;
/// Weight of a new step in the smoothed loss and top-1.
const SMOOTHING: f32 = 0.1;

/// What has happened so far.
#[derive(Debug)]
pub struct Tally {
    pub(super) recipe: Recipe,
    pub(super) started_at: Instant,
    plan: Option<Plan>,
    pub(super) total_steps: Option<u64>,
    pub(super) step: u64,
    /// Steps made since this process started, those made twice counted twice.
    pub(super) steps_here: u64,
    /// When the latest steps were done, without pauses for evaluation and restarts.
    window: VecDeque<Instant>,
    smooth: Option<(f32, f32)>,
    latest: Option<StepReport>,
    pub(super) evaluations: BTreeMap<u64, Evaluation>,
    pub(super) commit: Option<Commit>,
    pub(super) quarantined: BTreeMap<String, (String, u64)>,
    /// Failures in their order: the first is the root of what came after it.
    pub(super) setbacks: Vec<String>,
}

impl Tally {
    pub(super) fn new(recipe: Recipe, ledger: &Ledger, earlier: Vec<Evaluation>) -> Self {
        let commit = ledger.last_commit().cloned();
        let step = ledger.committed_step();
        let mut tally = Self {
            recipe,
            started_at: Instant::now(),
            plan: None,
            total_steps: ledger.total_steps(),
            step,
            steps_here: 0,
            window: VecDeque::new(),
            smooth: None,
            latest: None,
            evaluations: earlier.into_iter().filter(|e| e.step <= step).map(|e| (e.epoch, e)).collect(),
            commit,
            quarantined: BTreeMap::new(),
            setbacks: Vec::new(),
        };
        if let Some(data_set) = ledger.data_set() {
            tally.plan = tally.recipe.plan(data_set.train_clips).ok();
        }
        tally
    }

    /// Takes a notice in and says whether it was news (a clip may be reported broken again and again).
    pub(super) fn hear(&mut self, notice: &Notice) -> bool {
        match notice {
            Notice::Planned { data_set, total_steps } => {
                self.plan = self.recipe.plan(data_set.train_clips).ok();
                self.total_steps = Some(*total_steps);
            }
            Notice::Generation { assembly, .. } => {
                self.step = assembly.start.step();
                self.window.clear();
            }
            Notice::Step(report) => self.count(report),
            Notice::Evaluated(evaluation) => {
                self.evaluations.insert(evaluation.epoch, evaluation.clone());
                self.window.clear();
            }
            Notice::Committed(commit) => self.commit = Some(commit.clone()),
            Notice::Quarantined { key, reason } => {
                let known = self.quarantined.entry(key.clone()).or_insert_with(|| (reason.clone(), 0));
                known.1 += 1;
                return known.1 == 1;
            }
            Notice::SetBack { cause, generation, .. } => {
                let (step, at) = (self.step, clock(self.started_at.elapsed()));
                self.setbacks
                    .push(format!("{cause}; generation {generation}, about step {step}, {at} after this start"));
            }
            Notice::Formed { .. }
            | Notice::Dropped(_)
            | Notice::Waiting { .. }
            | Notice::Draining { .. }
            | Notice::Warning(_) => {}
        }
        true
    }

    fn count(&mut self, report: &StepReport) {
        self.step = report.step;
        self.steps_here += 1;
        self.window.push_back(Instant::now());
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let blend = |old: f32, new: f32| old + SMOOTHING * (new - old);
        self.smooth = Some(match self.smooth {
            None => (report.loss, report.top1),
            Some((loss, top1)) => (blend(loss, report.loss), blend(top1, report.top1)),
        });
        self.latest = Some(report.clone());
    }

    /// Steps applied.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps of the whole run, once planned.
    pub fn total_steps(&self) -> Option<u64> {
        self.total_steps
    }

    /// Time a step takes at present.
    fn step_time(&self) -> Option<Duration> {
        let (first, last) = (self.window.front()?, self.window.back()?);
        let steps = u32::try_from(self.window.len() - 1).ok().filter(|steps| *steps > 0)?;
        Some(last.duration_since(*first) / steps)
    }

    /// The figures beside the bar: epoch and stage, speed, loss, top-1, compute, time left.
    pub fn figures(&self) -> String {
        let mut parts = Vec::new();
        if let Some(plan) = &self.plan {
            // The step that was just done lies in the epoch of its first position.
            let epoch = plan.epoch_of_step(self.step.saturating_sub(1));
            let (shown, epochs) = (epoch.min(self.recipe.epochs() - 1) + 1, self.recipe.epochs());
            parts.push(format!("epoch {shown}/{epochs} {}", self.recipe.stage_of_epoch(epoch).name));
        }
        let step_time = self.step_time().filter(|time| !time.is_zero());
        if let (Some(time), Some(latest)) = (step_time, &self.latest) {
            parts.push(format!("{:.0} clips/s", f64::from(latest.clips) / time.as_secs_f64()));
        }
        if let Some((loss, top1)) = self.smooth {
            parts.push(format!("loss {loss:.3} · top-1 {:.1} %", top1 * 100.0));
        }
        if let Some(latest) = &self.latest {
            parts.push(compute(latest.gmacs, latest.gmacs_backbone));
        }
        if let (Some(time), Some(total)) = (step_time, self.total_steps) {
            let left = u32::try_from(total.saturating_sub(self.step)).unwrap_or(u32::MAX);
            parts.push(format!("{} left", clock(time.saturating_mul(left))));
        }
        parts.join(" · ")
    }

    /// One line for an evaluation.
    pub fn evaluation_line(&self, evaluation: &Evaluation) -> String {
        let Evaluation { epoch, top1, loss, gmacs_all_in, gmacs_backbone, clips, .. } = evaluation;
        let stage = &self.recipe.stage_of_epoch(*epoch).name;
        format!(
            "epoch {}/{} {stage} · validation: top-1 {:.1} % of {clips} clips · loss {loss:.3} · {} ({:.3} to {:.3})",
            epoch + 1,
            self.recipe.epochs(),
            top1 * 100.0,
            compute(gmacs_all_in.avg, *gmacs_backbone),
            gmacs_all_in.min,
            gmacs_all_in.max,
        )
    }
}

/// Compute a clip against the backbone's. A multiply-add counts as one, as the literature of the field counts.
pub(super) fn compute(gmacs: f64, backbone: f64) -> String {
    let share = if backbone > 0.0 { format!(" ({:.0} %)", 100.0 * gmacs / backbone) } else { String::new() };
    format!("{gmacs:.3} of {backbone:.3} GFLOPs{share}")
}

/// A length of time as people say it.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}
