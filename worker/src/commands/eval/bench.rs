//! The networks of an evaluation, on the device's thread, and what is measured of them.

use super::Found;
use super::accuracy::Seen;
use super::clips::{Clips, Video};
use super::controls::{Habits, affordable, cycle};
use super::figures::{Control, Controls, Speed, Speeds, top1};
use crate::commands::report::{Extremes, REDUNDANCY_CLIPS};
use crate::compute::Batch;
use crate::device::measure::{Layer, Look, Subject};

/// Clips inferred before the clock counts.
pub const WARM_UP: usize = 16;
/// Times that every clip is timed; the median pass counts.
pub const PASSES: usize = 3;
/// Fixed policies tried on the held-out clips, the most expensive affordable ones.
const CANDIDATES: usize = 24;
/// How much more than the network's own policy a fixed one may cost.
const SLACK: f64 = 1.02;
/// Which clip gets whose gates.
const SHUFFLE_SEED: u64 = 1;

/// The networks.
pub struct Bench {
    /// The one that is evaluated.
    pub dynamic: Subject,
    /// The one that it is compared with.
    pub baseline: Option<Subject>,
}

/// What both networks saw of one , with the seconds of every clip.
pub struct Both {
    /// The evaluated network.
    pub dynamic: Vec<(Look, f64)>,
    /// The one compared with; empty if there is none.
    pub baseline: Vec<(Look, f64)>,
}

impl Bench {
    /// The dynamic layers of the evaluated network.
    pub fn layers(&self) -> Vec<Layer> {
        self.dynamic.layers()
    }

    /// Shows clips to both networks, one by one and in turn who is first.
    pub fn both(&self, clips: &[Batch]) -> Both {
        let mut both = Both { dynamic: Vec::new(), baseline: Vec::new() };
        let timed = |subject: &Subject, clip: &Batch| {
            let (looks, seconds) = subject.timed(clip);
            looks.into_iter().map(move |look| (look, seconds)).collect::<Vec<_>>()
        };
        for (index, clip) in clips.iter().enumerate() {
            for turn in [index, index + 1] {
                match (turn % 2, &self.baseline) {
                    (0, _) => both.dynamic.extend(timed(&self.dynamic, clip)),
                    (_, Some(baseline)) => both.baseline.extend(timed(baseline, clip)),
                    _ => {}
                }
            }
        }
        both
    }

    /// Everything about one clip a video: what both networks see, how fast they are, and the controls if there are
    /// training clips to make them of.
    pub fn single(&self, val: Clips, train: &[Batch]) -> Found {
        let videos = val.videos();
        let see = |subject: &Subject| -> Vec<Seen> {
            let look = |video: &Video| {
                let looks = subject.look(&video.clip);
                let label = looks.first().and_then(|look| usize::try_from(look.label).ok()).unwrap_or(usize::MAX);
                Seen { key: video.key.clone(), label, looks }
            };
            videos.iter().map(look).collect()
        };
        let dynamic = see(&self.dynamic);
        let baseline = self.baseline.as_ref().map(see);
        let speeds = self.speeds(&videos);
        let controls = if train.is_empty() { None } else { self.controls((&val, &videos), train, &dynamic) };
        let mut extremes = Extremes::default();
        for (seen, video) in dynamic.iter().zip(&videos) {
            extremes.offer(&seen.entry(&video.clip));
        }
        let every = videos.len().div_ceil(REDUNDANCY_CLIPS).max(1);
        let samples = videos.into_iter().step_by(every).map(|video| video.clip).collect();
        Found { dynamic, baseline, left_out: val.left_out, speeds, controls, extremes, samples }
    }

    /// Clips a second of both networks: every clip through one, then through the other, in turn who is first.
    fn speeds(&self, videos: &[Video]) -> Speeds {
        let clips: Vec<&Batch> = videos.iter().map(|video| &video.clip).collect();
        let time = |subject: Option<&Subject>, clip| subject.map_or(0.0, |subject| subject.timed(clip).1);
        for clip in clips.iter().cycle().take(WARM_UP) {
            time(Some(&self.dynamic), clip);
            time(self.baseline.as_ref(), clip);
        }
        let mut passes: [Vec<f64>; 2] = Default::default();
        for pass in 0..PASSES {
            let mut seconds = [0.0; 2];
            for (index, clip) in clips.iter().enumerate() {
                for turn in [index + pass, index + pass + 1] {
                    let which = turn % 2;
                    let subject = if which == 0 { Some(&self.dynamic) } else { self.baseline.as_ref() };
                    seconds[which] += time(subject, clip);
                }
            }
            passes[0].push(seconds[0]);
            passes[1].push(seconds[1]);
        }
        let [dynamic, backbone] = passes.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            Speed { clips_per_second: clips.len() as f64 / seconds[PASSES / 2] }
        });
        Speeds { dynamic, backbone: self.baseline.is_some().then_some(backbone) }
    }

    /// The two controls: nobody's own policy, and everybody's same. None for a plain backbone.
    fn controls(&self, (val, videos): (&Clips, &[Video]), train: &[Batch], seen: &[Seen]) -> Option<Controls> {
        if self.layers().is_empty() {
            return None;
        }
        let looks: Vec<Look> = seen.iter().flat_map(|video| video.looks.clone()).collect();
        Some(Controls { shuffled: self.shuffled(videos, &looks), fixed: self.fixed(&val.batches, train, &looks) })
    }

    fn shuffled(&self, videos: &[Video], looks: &[Look]) -> Control {
        let order = cycle(videos.len(), SHUFFLE_SEED);
        let forced =
            |(video, from): (&Video, usize)| self.dynamic.forced(&video.clip, std::slice::from_ref(&looks[from].gates));
        let shuffled: Vec<Look> = videos.iter().zip(order).flat_map(forced).collect();
        let note = format!("each clip under the gate values of another (one cycle, seed {SHUFFLE_SEED})");
        Control::of(&shuffled, looks, note)
    }

    fn fixed(&self, val: &[Batch], train: &[Batch], looks: &[Look]) -> Control {
        let mut habits = Habits::default();
        let mut count = 0;
        for look in train.iter().flat_map(|batch| self.dynamic.look(batch)) {
            habits.add(&look.gates);
            count += 1;
        }
        let own = looks.iter().map(|look| look.gmacs_all_in).sum::<f64>() / looks.len() as f64;
        let filled = habits.filled(own * SLACK, |gates| self.dynamic.forced_gmacs(gates));
        let priced = habits.candidates().into_iter().chain(filled).map(|gates| {
            let cost = self.dynamic.forced_gmacs(&gates);
            (gates, cost)
        });
        let tried = affordable(priced.collect(), own * SLACK, CANDIDATES);
        let results = tried.iter().map(|(gates, _)| {
            let one = std::slice::from_ref(gates);
            val.iter().flat_map(|batch| self.dynamic.forced(batch, one)).collect::<Vec<Look>>()
        });
        let best = results.max_by(|a, b| top1(a).total_cmp(&top1(b))).unwrap_or_default();
        let note = format!(
            "options live where they are live in a share ≥ q of {count} training clips, at their mean weight: q swept, and \
             the budget filled from the most frequently live option on; the best held-out top-1 of the {} most expensive \
             candidates whose all-in cost is at most {SLACK} × the dynamic average",
            tried.len()
        );
        Control::of(&best, looks, note)
    }
}
