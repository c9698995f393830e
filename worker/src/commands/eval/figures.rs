//! The figures of an evaluation: over clips, over videos, over classes, over policies.

use std::collections::BTreeMap;

use serde::Serialize;

use super::accuracy::{Accuracy, Seen};
use crate::device::measure::{Layer, Look};

/// One network's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Share of the videos classified correctly, 0 to 1: the same as `video1`.
    pub top1: f64,
    /// By clip and by video.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// By the paper's count, a clip.
    pub gmacs_paper: Range,
    /// With gates and cheap operations, a clip.
    pub gmacs_all_in: Range,
}

/// How fast both networks are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speeds {
    /// The evaluated network.
    pub dynamic: Speed,
    /// The network compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Speed>,
}

/// How fast a network is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// At batch 1 on one thread, the network alone.
    pub clips_per_second: f64,
}

/// A figure over clips.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Mean.
    pub avg: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// What is computed, 1 being everything: means over the dynamic layers weighted by their multiply-adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// `1/R`: of the frames.
    pub temporal: f64,
    /// `r`: of the channels.
    pub channel: f64,
    /// `r/R`: of the multiply-adds.
    pub both: f64,
    /// Share of the class's clips classified correctly.
    pub top1: f64,
    /// Clips of the class.
    pub clips: usize,
}

/// The policies beside the network's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Controls {
    /// Each clip under the gates of another.
    pub shuffled: Control,
    /// All clips under one policy of at most the same cost.
    pub fixed: Control,
}

/// One control.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// Share classified correctly, 0 to 1.
    pub top1: f64,
    /// With gates and cheap operations.
    pub gmacs_all_in: Range,
    /// Clips that only the network's own policy gets right.
    pub only_own_right: usize,
    /// Clips that only this control gets right.
    pub only_control_right: usize,
    /// How it was made.
    pub note: String,
}

impl Range {
    /// Over the values; zeros for none.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1);
        Self {
            avg: values.clone().sum::<f64>() / count as f64,
            min: values.clone().reduce(f64::min).unwrap_or_default(),
            max: values.reduce(f64::max).unwrap_or_default(),
        }
    }
}

impl Range {
    /// Four digits, wherever the point is.
    pub fn cells(&self) -> [String; 3] {
        let digits = if self.max < 10.0 { 4 } else { 2 };
        [self.avg, self.min, self.max].map(|value| format!("{value:.digits$}"))
    }
}

impl Figures {
    /// Of all videos.
    pub fn of(seen: &[Seen]) -> Self {
        let accuracy = Accuracy::of(seen.iter());
        let looks = || seen.iter().flat_map(|video| &video.looks);
        Self {
            top1: accuracy.video1,
            accuracy,
            gmacs_paper: Range::of(looks().map(|look| look.gmacs_paper)),
            gmacs_all_in: Range::of(looks().map(|look| look.gmacs_all_in)),
        }
    }
}

impl Control {
    /// Of the looks at every clip, beside those under the clip's own policy.
    pub fn of(looks: &[Look], own: &[Look], note: String) -> Self {
        let only =
            |one: &[Look], other: &[Look]| one.iter().zip(other).filter(|(a, b)| a.is_right && !b.is_right).count();
        Self {
            top1: top1(looks),
            gmacs_all_in: Range::of(looks.iter().map(|look| look.gmacs_all_in)),
            only_own_right: only(own, looks),
            only_control_right: only(looks, own),
            note,
        }
    }

    /// In words; two standard deviations of the clips that the two disagree on count as chance.
    pub fn verdict(&self) -> &'static str {
        let (won, lost) = (self.only_own_right as f64, self.only_control_right as f64);
        match (won - lost).abs() > 2.0 * (won + lost).sqrt() {
            true if won > lost => "the clip's own policy is better",
            true => "the clip's own policy is worse",
            false => "no difference beyond chance",
        }
    }
}

/// Share classified correctly.
pub fn top1(looks: &[Look]) -> f64 {
    looks.iter().filter(|look| look.is_right).count() as f64 / looks.len().max(1) as f64
}

/// What is computed of each class's clips; a class without clips is left out.
pub fn shares(seen: &[Seen], layers: &[Layer], classes: &[String]) -> BTreeMap<String, Share> {
    let of_class = |(label, name): (usize, &String)| {
        let own: Vec<&Look> = seen.iter().filter(|video| video.label == label).flat_map(|video| &video.looks).collect();
        let mean = |of: &dyn Fn(&Look) -> f64| own.iter().map(|look| of(look)).sum::<f64>() / own.len() as f64;
        let computed = |pick: fn((f64, f64)) -> f64| mean(&|look| computed(look, layers, pick));
        (!own.is_empty()).then(|| {
            let share = Share {
                temporal: computed(|(time, _)| time),
                channel: computed(|(_, channel)| channel),
                both: computed(|(time, channel)| time * channel),
                top1: mean(&|look| f64::from(u8::from(look.is_right))),
                clips: own.len(),
            };
            (name.clone(), share)
        })
    };
    classes.iter().enumerate().filter_map(of_class).collect()
}

fn computed(look: &Look, layers: &[Layer], pick: fn((f64, f64)) -> f64) -> f64 {
    if layers.is_empty() {
        return 1.0;
    }
    layers
        .iter()
        .zip(&look.gates)
        .map(|(layer, row)| layer.share * pick((layer.temporal(row), layer.channel(row))))
        .sum()
}
