//! What an evaluation says: as JSON for programs, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use checkpoint::manifest::Object;
use serde::Serialize;

use super::Found;
use super::accuracy::{ClassAccuracy, Seen, confusion, per_class};
use super::bench::{PASSES, WARM_UP};
use super::clips::LeftOut;
use super::figures::{Controls, Figures, Share, Speeds, shares};
use crate::device::measure::Layer;

/// The whole summary. Two evaluations of the same weights on the same videos differ in `timing` alone.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What was evaluated, on what and how.
    #[serde(flatten)]
    pub identity: Identity,
    /// blake3 over keys and labels of the videos seen, in order.
    pub sample_digest: String,
    /// Clips inferred: videos × views × crops.
    pub clips: usize,
    /// Videos seen.
    pub videos: usize,
    /// How many could not be read.
    pub clips_left_out: usize,
    /// Which, and why.
    pub left_out: Vec<LeftOut>,
    /// The network by skipping inference, under its own policy if it has one.
    pub dynamic: Figures,
    /// The network compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Figures>,
    /// What is computed of the clips of each class.
    pub share: BTreeMap<String, Share>,
    /// The policies that the network's own must beat; absent for a plain backbone and where there are several views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
    /// How right the network is about each class.
    pub per_class: BTreeMap<String, ClassAccuracy>,
    /// Names of the classes by label.
    pub classes: Vec<String>,
    /// How many videos of each class (row) were taken for each class (column).
    pub confusion: Vec<Vec<u64>>,
    /// All that depends on the machine and its mood.
    pub timing: Speeds,
    /// How the numbers were made.
    pub notes: Vec<String>,
}

/// What was evaluated, on what and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Steps of the evaluated checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The weights file, if it is no run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Digest of the run's recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe_digest: Option<String>,
    /// blake3 of the weights.
    pub weights_digest: String,
    /// Digest of the data set.
    pub data_digest: String,
    /// How videos are looked at.
    pub protocol: Protocol,
}

/// How videos are looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Protocol {
    /// `centre`: one clip, the middle of everything; `uniform`: PySlowFast's test.
    pub placement: String,
    /// Clips in time of each video.
    pub views: u32,
    /// Squares of each.
    pub crops: u32,
    /// Frames of a clip.
    pub frames: u32,
    /// Distance between two of them.
    pub stride: u32,
    /// In frames of this rate, if not the video's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_fps: Option<f64>,
    /// Short side of the scaled frames, in pixels.
    pub short_side: u32,
    /// Side of the squares, in pixels.
    pub crop: u32,
}

impl Summary {
    /// Sums up what was found with these dynamic layers on these classes.
    pub(super) fn of(identity: Identity, found: &Found, (layers, classes): (&[Layer], &[String])) -> Self {
        Self {
            notes: notes(&identity.protocol),
            identity,
            sample_digest: sample_digest(&found.dynamic),
            clips: found.dynamic.iter().map(|video| video.looks.len()).sum(),
            videos: found.dynamic.len(),
            clips_left_out: found.left_out.len(),
            left_out: found.left_out.clone(),
            dynamic: Figures::of(&found.dynamic),
            backbone: found.baseline.as_deref().map(Figures::of),
            share: shares(&found.dynamic, layers, classes),
            controls: found.controls.clone(),
            per_class: per_class(&found.dynamic, classes),
            classes: classes.to_vec(),
            confusion: confusion(&found.dynamic, classes.len()),
            timing: found.speeds,
        }
    }

    /// The table, ending in what it shows.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let head = [
            "GMAC a clip",
            "clip-1",
            "video-1",
            "video-5",
            "all-in avg",
            "min",
            "max",
            "paper avg",
            "min",
            "max",
            "clips/s",
        ];
        line(&mut text, &head.map(str::to_owned));
        let (dynamic, backbone) = (Some(self.timing.dynamic), self.timing.backbone);
        let rows = [("dynamic", Some(&self.dynamic), dynamic), ("backbone", self.backbone.as_ref(), backbone)];
        for (name, figures, speed) in rows {
            if let (Some(figures), Some(speed)) = (figures, speed) {
                let [avg, min, max] = figures.gmacs_all_in.cells();
                let [paper_avg, paper_min, paper_max] = figures.gmacs_paper.cells();
                let [clip1, video1, video5] =
                    [figures.accuracy.clip1, figures.accuracy.video1, figures.accuracy.video5].map(percent);
                let speed = format!("{:.1}", speed.clips_per_second);
                let name = name.to_owned();
                line(&mut text, &[name, clip1, video1, video5, avg, min, max, paper_avg, paper_min, paper_max, speed]);
            }
        }
        if let Some(Controls { shuffled, fixed }) = &self.controls {
            for (name, control) in [("shuffled policies", shuffled), ("one fixed policy", fixed)] {
                let [avg, min, max] = control.gmacs_all_in.cells();
                line(&mut text, &[name.to_owned(), String::new(), percent(control.top1), String::new(), avg, min, max]);
            }
        }
        self.class_table(&mut text);
        for finding in self.findings() {
            let _ = writeln!(text, "{finding}");
        }
        text
    }

    fn class_table(&self, text: &mut String) {
        let head = ["computed share of", "frames", "channels", "both", "clip-1", "clips"];
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
            let speeds = (self.timing.dynamic, self.timing.backbone);
            let speed = speeds.0.clips_per_second / speeds.1.map_or(f64::NAN, |speed| speed.clips_per_second);
            findings.push(format!(
                "against the backbone: {macs:.2} of its multiply-adds, {points:+.1} points of video-1, {speed:.2} times its speed"
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

/// blake3 over keys and labels, each key with its length before it.
fn sample_digest(seen: &[Seen]) -> String {
    let mut bytes = Vec::new();
    for video in seen {
        bytes.extend((video.key.len() as u64).to_le_bytes());
        bytes.extend(video.key.as_bytes());
        bytes.extend((video.label as u64).to_le_bytes());
    }
    Object::of("samples", &bytes).blake3
}

fn notes(protocol: &Protocol) -> Vec<String> {
    let timed = match protocol.placement.as_str() {
        "centre" => {
            format!("{WARM_UP} clips of warm-up, the median of {PASSES} passes, both networks in turn on every clip")
        }
        _ => format!("every clip once, the first {WARM_UP} apart, both networks in turn on every clip"),
    };
    vec![
        "gmacs are 10^9 multiply-adds of convolutions and linear layers a clip at the real crop; paper: r/R of each dynamic \
         layer; all_in: with gates and cheap operations"
            .to_owned(),
        "clip1: every clip by itself; video1, video5: the mean of the softmax of all clips of a video; top1 is video1"
            .to_owned(),
        format!("clips_per_second: batch 1, one thread, the network alone, {timed}"),
        "share: of the frames (temporal, 1/R), of the channels (channel, r) and of both that is computed, mean over the \
         dynamic layers weighted by their multiply-adds"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::eval::figures::{Control, Speed};
    use crate::commands::report::Extremes;
    use crate::device::measure::{GateRow, Look};

    fn layers() -> Vec<Layer> {
        let layer = |name: &str, share| Layer {
            name: name.to_owned(),
            share,
            time_shares: vec![1.0, 0.5],
            channel_shares: vec![1.0, 0.5],
        };
        vec![layer("a", 0.75), layer("b", 0.25)]
    }

    fn video(key: &str, label: usize, is_right: bool, gates: [[f32; 2]; 4]) -> Seen {
        let [t0, c0, t1, c1] = gates.map(|weights| weights.to_vec());
        let gates = vec![GateRow { time: t0, channel: c0 }, GateRow { time: t1, channel: c1 }];
        let mut probabilities = vec![0.2; 2];
        probabilities[if is_right { label } else { 1 - label }] = 0.8;
        let label_number = i64::try_from(label).expect("small");
        let look = Look { label: label_number, is_right, probabilities, gmacs_paper: 1.0, gmacs_all_in: 1.1, gates };
        Seen { key: key.to_owned(), label, looks: vec![look] }
    }

    const FULL: [f32; 2] = [0.4, 0.3];
    const HALF: [f32; 2] = [0.0, 0.3];

    fn seen() -> Vec<Seen> {
        vec![
            video("s/1", 0, true, [FULL, FULL, FULL, FULL]),
            video("z/1", 1, true, [HALF, FULL, FULL, HALF]),
            video("z/2", 1, false, [HALF, HALF, HALF, HALF]),
        ]
    }

    #[test]
    fn shares_are_weighted_by_the_layers_cost() {
        let classes = ["still".to_owned(), "zoom_in".to_owned(), "unseen".to_owned()];
        let shares = shares(&seen(), &layers(), &classes);
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
        let mut plain = seen();
        plain[0].looks[0].gates.clear();
        assert_eq!(shares(&plain[..1], &[], &["still".to_owned()])["still"].both, 1.0);
    }

    fn identity() -> Identity {
        Identity {
            run: Some("demo".to_owned()),
            step: Some(800),
            weights: None,
            recipe_digest: Some("d".to_owned()),
            weights_digest: "w".to_owned(),
            data_digest: "s".to_owned(),
            protocol: Protocol {
                placement: "centre".to_owned(),
                views: 1,
                crops: 1,
                frames: 8,
                stride: 4,
                target_fps: None,
                short_side: 64,
                crop: 56,
            },
        }
    }

    fn found() -> Found {
        let wrong = |video: Seen| video.looks.into_iter().map(|look| Look { is_right: false, ..look });
        let wrong: Vec<Look> = seen().into_iter().flat_map(wrong).collect();
        let own: Vec<Look> = seen().into_iter().flat_map(|video| video.looks).collect();
        let control = Control::of(&wrong, &own, "how".to_owned());
        let speed = |clips_per_second| Speed { clips_per_second };
        Found {
            dynamic: seen(),
            baseline: Some(seen()),
            left_out: vec![LeftOut { key: "z/3".to_owned(), reason: "the file is empty".to_owned() }],
            speeds: Speeds { dynamic: speed(120.0), backbone: Some(speed(100.0)) },
            controls: Some(Controls { shuffled: control.clone(), fixed: control }),
            extremes: Extremes::default(),
            samples: Vec::new(),
        }
    }

    fn summary(found: &Found) -> Summary {
        Summary::of(identity(), found, (&layers(), &["still".to_owned(), "zoom_in".to_owned()]))
    }

    #[test]
    fn a_verdict_needs_more_clips_than_chance_gives() {
        let control = |won, lost| Control {
            only_own_right: won,
            only_control_right: lost,
            ..found().controls.expect("there").fixed
        };
        assert_eq!(control(30, 6).verdict(), "the clip's own policy is better");
        assert_eq!(control(6, 30).verdict(), "the clip's own policy is worse");
        assert_eq!(control(20, 16).verdict(), "no difference beyond chance");
        assert_eq!(control(0, 0).verdict(), "no difference beyond chance");
    }

    #[test]
    fn the_json_has_the_keys_that_are_asked_for() {
        let json = serde_json::to_value(summary(&found())).expect("serialises");
        for name in ["dynamic", "backbone"] {
            for path in ["top1", "clip1", "video1", "video5", "gmacs_paper/avg", "gmacs_paper/min", "gmacs_all_in/max"]
            {
                let path = format!("/{name}/{path}");
                assert!(json.pointer(&path).is_some_and(serde_json::Value::is_f64), "{path}");
            }
        }
        for path in [
            "timing/dynamic/clips_per_second",
            "timing/backbone/clips_per_second",
            "share/still/temporal",
            "share/still/channel",
            "controls/shuffled/top1",
            "controls/fixed/gmacs_all_in/avg",
            "per_class/zoom_in/video1",
        ] {
            assert!(json.pointer(&format!("/{path}")).is_some_and(serde_json::Value::is_f64), "{path}");
        }
        assert_eq!(json["confusion"], serde_json::json!([[1, 0], [1, 1]]));
        assert_eq!((&json["run"], &json["protocol"]["views"]), (&"demo".into(), &1.into()));
        assert_eq!(json["left_out"][0]["key"], "z/3");
    }

    #[test]
    fn only_the_timing_tells_two_evaluations_of_the_same_apart() {
        let text = |found: &Found| {
            let mut json = serde_json::to_value(summary(found)).expect("serialises");
            json["timing"] = serde_json::Value::Null;
            serde_json::to_string(&json).expect("serialises")
        };
        let slower = Found { speeds: Speeds { dynamic: Speed { clips_per_second: 1.0 }, backbone: None }, ..found() };
        assert_eq!(text(&found()), text(&slower));
        let mut other = found();
        other.dynamic[0].key = "s/2".to_owned();
        assert_ne!(text(&found()), text(&other), "other samples, another digest");
    }

    #[test]
    fn the_table_says_what_the_controls_show() {
        let table = summary(&found()).table();
        let fixed = "against policies fixed: +66.7 points (2 clips won, 0 lost): no difference beyond chance";
        assert!(table.contains(fixed), "{table}");
        assert!(table.contains("1.20 times its speed"), "{table}");
        assert!(table.lines().all(|line| line == line.trim_end()));
    }
}
