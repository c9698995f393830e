//! What an evaluation says: as JSON for programs, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::device::measure::{Layer, Look};

/// The whole summary.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The run.
    pub run: String,
    /// Steps of the evaluated checkpoint.
    pub step: u64,
    /// Digest of its recipe.
    pub recipe_digest: String,
    /// Held-out clips seen.
    pub clips: usize,
    /// Held-out clips that could not be read.
    pub clips_left_out: u64,
    /// The run's network under its own policy, by skipping inference.
    pub dynamic: Figures,
    /// The network compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Figures>,
    /// What is computed of the clips of each class.
    pub share: BTreeMap<String, Share>,
    /// The policies that the network's own must beat; absent for a plain backbone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
    /// How the numbers were made.
    pub notes: Vec<String>,
}

/// One network's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Share classified correctly, 0 to 1.
    pub top1: f64,
    /// By the paper's count.
    pub gmacs_paper: Range,
    /// With gates and cheap operations.
    pub gmacs_all_in: Range,
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
    fn cells(&self) -> [String; 3] {
        let digits = if self.max < 10.0 { 4 } else { 2 };
        [self.avg, self.min, self.max].map(|value| format!("{value:.digits$}"))
    }
}

impl Figures {
    /// Of the looks at every clip.
    pub fn of(looks: &[Look], clips_per_second: f64) -> Self {
        Self {
            top1: top1(looks),
            gmacs_paper: Range::of(looks.iter().map(|look| look.gmacs_paper)),
            gmacs_all_in: Range::of(looks.iter().map(|look| look.gmacs_all_in)),
            clips_per_second,
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
    fn verdict(&self) -> &'static str {
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
pub fn shares(looks: &[Look], layers: &[Layer], classes: &[String]) -> BTreeMap<String, Share> {
    let of_class = |(label, name): (usize, &String)| {
        let own: Vec<&Look> = looks.iter().filter(|look| usize::try_from(look.label) == Ok(label)).collect();
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
    // Options go from the full computation down: the first live one decides what is computed.
    let first = |shares: &[f64], weights: &[f32]| {
        shares.iter().zip(weights).find(|(_, weight)| **weight > 0.0).map_or(1.0, |(share, _)| *share)
    };
    let layer = layers.iter().zip(&look.gates);
    layer
        .map(|(l, row)| l.share * pick((first(&l.time_shares, &row.time), first(&l.channel_shares, &row.channel))))
        .sum()
}

impl Summary {
    /// The table, ending in what it shows.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let head = ["GMAC a clip", "top-1", "all-in avg", "min", "max", "paper avg", "min", "max", "clips/s"];
        line(&mut text, &head.map(str::to_owned));
        for (name, figures) in [("dynamic", Some(&self.dynamic)), ("backbone", self.backbone.as_ref())] {
            if let Some(figures) = figures {
                let [avg, min, max] = figures.gmacs_all_in.cells();
                let [paper_avg, paper_min, paper_max] = figures.gmacs_paper.cells();
                let (top1, speed) = (percent(figures.top1), format!("{:.1}", figures.clips_per_second));
                line(&mut text, &[name.to_owned(), top1, avg, min, max, paper_avg, paper_min, paper_max, speed]);
            }
        }
        if let Some(Controls { shuffled, fixed }) = &self.controls {
            for (name, control) in [("shuffled policies", shuffled), ("one fixed policy", fixed)] {
                let [avg, min, max] = control.gmacs_all_in.cells();
                line(&mut text, &[name.to_owned(), percent(control.top1), avg, min, max]);
            }
        }
        self.class_table(&mut text);
        for finding in self.findings() {
            let _ = writeln!(text, "{finding}");
        }
        text
    }

    fn class_table(&self, text: &mut String) {
        let head = ["computed share of", "frames", "channels", "both", "top-1", "clips"];
        let _ = writeln!(text);
        line(text, &head.map(str::to_owned));
        for (class, share) in &self.share {
            let [temporal, channel, both] = [share.temporal, share.channel, share.both].map(|s| format!("{s:.3}"));
            line(text, &[class.clone(), temporal, channel, both, percent(share.top1), share.clips.to_string()]);
        }
        let _ = writeln!(text);
    }

    /// In words, whatever the outcome is.
    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if let Some(backbone) = &self.backbone {
            let macs = self.dynamic.gmacs_all_in.avg / backbone.gmacs_all_in.avg;
            let points = 100.0 * (self.dynamic.top1 - backbone.top1);
            let speed = self.dynamic.clips_per_second / backbone.clips_per_second;
            findings.push(format!(
                "against the backbone: {macs:.2} of its multiply-adds, {points:+.1} points of top-1, {speed:.2} times its speed"
            ));
        }
        if let Some(controls) = &self.controls {
            for (name, control) in [("shuffled between clips", &controls.shuffled), ("fixed", &controls.fixed)] {
                let points = 100.0 * (self.dynamic.top1 - control.top1);
                let (won, lost, verdict) = (control.only_own_right, control.only_control_right, control.verdict());
                findings.push(format!(
                    "against policies {name}: {points:+.1} points ({won} clips won, {lost} lost): {verdict}"
                ));
            }
        }
        findings
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn line(text: &mut String, cells: &[String]) {
    let [name, numbers @ ..] = cells else { return };
    let numbers: String = numbers.iter().map(|cell| format!(" {cell:>10}")).collect();
    let _ = writeln!(text, "{name:<18}{numbers}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::measure::GateRow;

    fn layers() -> Vec<Layer> {
        let layer = |share| Layer { share, time_shares: vec![1.0, 0.5], channel_shares: vec![1.0, 0.5] };
        vec![layer(0.75), layer(0.25)]
    }

    fn look(label: i64, is_right: bool, gates: [[f32; 2]; 4]) -> Look {
        let [t0, c0, t1, c1] = gates.map(|weights| weights.to_vec());
        let gates = vec![GateRow { time: t0, channel: c0 }, GateRow { time: t1, channel: c1 }];
        Look { label, is_right, gmacs_paper: 1.0, gmacs_all_in: 1.1, gates }
    }

    const FULL: [f32; 2] = [0.4, 0.3];
    const HALF: [f32; 2] = [0.0, 0.3];

    fn looks() -> Vec<Look> {
        vec![
            look(0, true, [FULL, FULL, FULL, FULL]),
            look(1, true, [HALF, FULL, FULL, HALF]),
            look(1, false, [HALF, HALF, HALF, HALF]),
        ]
    }

    #[test]
    fn shares_are_weighted_by_the_layers_cost() {
        let classes = ["still".to_owned(), "zoom_in".to_owned(), "unseen".to_owned()];
        let shares = shares(&looks(), &layers(), &classes);
        assert_eq!(shares.keys().collect::<Vec<_>>(), ["still", "zoom_in"]);
        let still = shares["still"];
        assert_eq!((still.temporal, still.channel, still.both, still.top1), (1.0, 1.0, 1.0, 1.0));
        let zoom = shares["zoom_in"];
        // One clip: frames 0.75·½ + 0.25, channels 0.75 + 0.25·½; the other ½ everywhere.
        assert!((zoom.temporal - (0.625 + 0.5) / 2.0).abs() < 1e-9, "{zoom:?}");
        assert!((zoom.channel - (0.875 + 0.5) / 2.0).abs() < 1e-9, "{zoom:?}");
        assert!((zoom.both - (0.75 * 0.5 + 0.25 * 0.5 + 0.25) / 2.0).abs() < 1e-9, "{zoom:?}");
        assert_eq!((zoom.top1, zoom.clips), (0.5, 2));
    }

    #[test]
    fn a_plain_backbone_computes_everything() {
        let plain = Look { gates: Vec::new(), ..looks()[0].clone() };
        assert_eq!(shares(&[plain], &[], &["still".to_owned()])["still"].both, 1.0);
    }

    fn summary() -> Summary {
        let wrong: Vec<Look> = looks().into_iter().map(|look| Look { is_right: false, ..look }).collect();
        let control = Control::of(&wrong, &looks(), "how".to_owned());
        Summary {
            run: "demo".to_owned(),
            step: 800,
            recipe_digest: "d".to_owned(),
            clips: 3,
            clips_left_out: 0,
            dynamic: Figures::of(&looks(), 120.0),
            backbone: Some(Figures { clips_per_second: 100.0, ..Figures::of(&looks(), 0.0) }),
            share: shares(&looks(), &layers(), &["still".to_owned(), "zoom_in".to_owned()]),
            controls: Some(Controls { shuffled: control.clone(), fixed: control }),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_verdict_needs_more_clips_than_chance_gives() {
        let control = |won, lost| Control {
            only_own_right: won,
            only_control_right: lost,
            ..summary().controls.expect("there").fixed
        };
        assert_eq!(control(30, 6).verdict(), "the clip's own policy is better");
        assert_eq!(control(6, 30).verdict(), "the clip's own policy is worse");
        assert_eq!(control(20, 16).verdict(), "no difference beyond chance");
        assert_eq!(control(0, 0).verdict(), "no difference beyond chance");
    }

    #[test]
    fn the_json_has_the_keys_that_are_asked_for() {
        let json = serde_json::to_value(summary()).expect("serialises");
        for name in ["dynamic", "backbone"] {
            for path in [
                "top1",
                "gmacs_paper/avg",
                "gmacs_paper/min",
                "gmacs_all_in/avg",
                "gmacs_all_in/max",
                "clips_per_second",
            ] {
                assert!(
                    json.pointer(&format!("/{name}/{path}")).is_some_and(serde_json::Value::is_f64),
                    "{name}/{path}"
                );
            }
        }
        for path in
            ["share/still/temporal", "share/still/channel", "controls/shuffled/top1", "controls/fixed/gmacs_all_in/avg"]
        {
            assert!(json.pointer(&format!("/{path}")).is_some_and(serde_json::Value::is_f64), "{path}");
        }
    }

    #[test]
    fn the_table_says_what_the_controls_show() {
        let table = summary().table();
        let fixed = "against policies fixed: +66.7 points (2 clips won, 0 lost): no difference beyond chance";
        assert!(table.contains(fixed), "{table}");
        assert!(table.contains("1.20 times its speed"), "{table}");
        assert!(table.lines().all(|line| line == line.trim_end()));
    }
}
