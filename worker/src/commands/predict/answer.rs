//! What is said of one video: from the looks at its clips to one answer, for programs and for people.

use std::fmt::Write;

use proto::loader::Facts;
use serde::Serialize;

use crate::device::measure::{Layer, Look};

/// Everything about one video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// As it was named; `-` is standard input.
    pub file: String,
    /// Frames of the video.
    pub source_frames: u32,
    /// Frames a second; 0 if the file does not say.
    pub fps: f64,
    /// Length in seconds; 0 if the file does not say.
    pub seconds: f64,
    /// Clips that were inferred: places in time, times crops.
    pub clips: u64,
    /// The likeliest classes, by the mean of all clips' probabilities.
    pub top: Vec<Guess>,
    /// What a clip costs on average, in 10^9 multiply-adds.
    pub gmacs: Cost,
    /// Time of the network for all clips.
    pub compute_seconds: f64,
    /// What the dynamic layers computed; empty for a plain backbone.
    pub layers: Vec<LayerChoice>,
    /// The answer at every place in time.
    pub windows: Vec<Window>,
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// Its number.
    pub label: usize,
    /// Its name.
    pub class: String,
    /// 0 to 1.
    pub probability: f64,
}

/// 10^9 multiply-adds of convolutions and linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// With gates and cheap operations.
    pub all_in: f64,
    /// The paper's count: without them.
    pub paper: f64,
    /// Of the same network without policies.
    pub backbone: f64,
}

/// What one layer computed, over the clips.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerChoice {
    /// The convolution.
    pub name: String,
    /// Share of the frames, 1/R, on average.
    pub temporal: f64,
    /// Share of the channels, r, on average.
    pub channel: f64,
    /// r/R on average.
    pub both: f64,
    /// In which share of the clips each temporal option had a weight above 0, full computation first.
    pub temporal_live: Vec<f64>,
    /// The same of the channel options.
    pub channel_live: Vec<f64>,
}

/// The answer at one place in time, over its crops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// The first source frame that it shows.
    pub first_frame: u32,
    /// The last one.
    pub last_frame: u32,
    /// The likeliest class.
    #[serde(flatten)]
    pub guess: Guess,
}

/// Sums over the clips of one video.
pub struct Tally<'a> {
    layers: &'a [Layer],
    classes: &'a [String],
    clips: u64,
    probabilities: Vec<f64>,
    all_in: f64,
    paper: f64,
    compute_seconds: f64,
    sums: Vec<LayerSums>,
    windows: Vec<Window>,
}

/// Sums over the clips of one layer.
#[derive(Clone, Default)]
struct LayerSums {
    shares: [f64; 3],
    live: [Vec<f64>; 2],
}

impl<'a> Tally<'a> {
    /// Nothing yet of a network with these dynamic layers. Classes without a name are called by their number.
    pub fn new(layers: &'a [Layer], classes: &'a [String]) -> Self {
        let sums = |layer: &Layer| LayerSums {
            shares: [0.0; 3],
            live: [vec![0.0; layer.time_shares.len()], vec![0.0; layer.channel_shares.len()]],
        };
        Self {
            layers,
            classes,
            clips: 0,
            probabilities: Vec::new(),
            all_in: 0.0,
            paper: 0.0,
            compute_seconds: 0.0,
            sums: layers.iter().map(sums).collect(),
            windows: Vec::new(),
        }
    }

    /// One more place in time: the looks at its crops, with the seconds that each took.
    pub fn add(&mut self, source_frames: &[u32], looks: &[(Look, f64)]) {
        let mut here = vec![0.0; looks.first().map_or(0, |(look, _)| look.probabilities.len())];
        for (look, seconds) in looks {
            self.clips += 1;
            self.all_in += look.gmacs_all_in;
            self.paper += look.gmacs_paper;
            self.compute_seconds += seconds;
            accumulate(&mut here, look.probabilities.iter().map(|&probability| f64::from(probability)));
            for ((sums, layer), row) in self.sums.iter_mut().zip(self.layers).zip(&look.gates) {
                let (temporal, channel) = (layer.temporal(row), layer.channel(row));
                accumulate(&mut sums.shares, [temporal, channel, temporal * channel].into_iter());
                for (live, weights) in sums.live.iter_mut().zip([&row.time, &row.channel]) {
                    accumulate(live, weights.iter().map(|&weight| f64::from(u8::from(weight > 0.0))));
                }
            }
        }
        self.probabilities.resize(here.len(), 0.0);
        accumulate(&mut self.probabilities, here.iter().copied());
        if let Some(guess) = self.guesses(&here, looks.len() as u64).into_iter().next() {
            let (first_frame, last_frame) = (source_frames.iter().min(), source_frames.iter().max());
            let place = |frame: Option<&u32>| frame.copied().unwrap_or_default();
            self.windows.push(Window { first_frame: place(first_frame), last_frame: place(last_frame), guess });
        }
    }

    /// The answer, with the `top` likeliest classes.
    pub fn answer(self, file: String, facts: &Facts, (top, backbone): (usize, f64)) -> Answer {
        let clips = self.clips.max(1) as f64;
        let mean = |values: &[f64]| values.iter().map(|value| value / clips).collect::<Vec<f64>>();
        let layer = |(layer, sums): (&Layer, &LayerSums)| LayerChoice {
            name: layer.name.clone(),
            temporal: sums.shares[0] / clips,
            channel: sums.shares[1] / clips,
            both: sums.shares[2] / clips,
            temporal_live: mean(&sums.live[0]),
            channel_live: mean(&sums.live[1]),
        };
        let mut guesses = self.guesses(&self.probabilities, self.clips);
        guesses.truncate(top);
        Answer {
            file,
            source_frames: facts.source_frames,
            fps: facts.fps,
            seconds: if facts.fps > 0.0 { f64::from(facts.source_frames) / facts.fps } else { 0.0 },
            clips: self.clips,
            top: guesses,
            gmacs: Cost { all_in: self.all_in / clips, paper: self.paper / clips, backbone },
            compute_seconds: self.compute_seconds,
            layers: self.layers.iter().zip(&self.sums).map(layer).collect(),
            windows: self.windows,
        }
    }

    /// All classes, the likeliest first; the lower number where two are as likely.
    fn guesses(&self, sums: &[f64], clips: u64) -> Vec<Guess> {
        let name = |label: usize| self.classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"));
        let guess =
            |(label, sum): (usize, &f64)| Guess { label, class: name(label), probability: sum / clips.max(1) as f64 };
        let mut guesses: Vec<Guess> = sums.iter().enumerate().map(guess).collect();
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses
    }
}

fn accumulate(sums: &mut [f64], values: impl Iterator<Item = f64>) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

impl Answer {
    /// For people. With `timeline`, also what is seen when.
    pub fn text(&self, timeline: bool) -> String {
        let mut text = String::new();
        let length = if self.fps > 0.0 { format!("{:.1} s, ", self.seconds) } else { String::new() };
        let clips = if self.clips == 1 { "1 clip".to_owned() } else { format!("{} clips", self.clips) };
        let _ = writeln!(text, "{}: {length}{} frames, {clips}", self.file, self.source_frames);
        for guess in &self.top {
            let _ = writeln!(text, "  {:>5.1} %  {}", 100.0 * guess.probability, guess.class);
        }
        if timeline {
            for (from, to, class) in self.segments() {
                let _ = writeln!(text, "  {} to {}  {class}", self.moment(from), self.moment(to + 1));
            }
        }
        let (cost, each) = (self.gmacs, self.compute_seconds / self.clips.max(1) as f64);
        let share = 100.0 * cost.all_in / cost.backbone;
        let _ = writeln!(
            text,
            "  {:.4} GMAC a clip all-in, {:.4} by the paper's count: {share:.1} % of the backbone's {:.4}; {:.1} ms a clip",
            cost.all_in,
            cost.paper,
            cost.backbone,
            1e3 * each
        );
        if !self.layers.is_empty() {
            let bars: String = self.layers.iter().map(|layer| bar(layer.both)).collect();
            let _ = writeln!(text, "  computed by layer {bars}  (█ all, ▁ an eighth)");
        }
        text
    }

    /// Stretches of windows with one answer, in frames.
    fn segments(&self) -> Vec<(u32, u32, &str)> {
        let mut segments: Vec<(u32, u32, &str)> = Vec::new();
        for window in &self.windows {
            match segments.last_mut() {
                Some((_, to, class)) if *class == window.guess.class => *to = window.last_frame,
                _ => segments.push((window.first_frame, window.last_frame, &window.guess.class)),
            }
        }
        segments
    }

    /// A frame's time, or its number where the rate is not known.
    fn moment(&self, frame: u32) -> String {
        if self.fps <= 0.0 {
            return format!("frame {frame}");
        }
        let tenths = (10.0 * f64::from(frame) / self.fps).round() as u64;
        format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
    }
}

/// A share as a block of that height.
fn bar(share: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eighths = (share * 8.0).ceil().clamp(1.0, 8.0) as usize;
    BARS[eighths - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::measure::GateRow;

    fn layers() -> Vec<Layer> {
        let layer = |name: &str| Layer {
            name: name.to_owned(),
            share: 0.5,
            time_shares: vec![1.0, 0.5],
            channel_shares: vec![1.0, 0.5],
        };
        vec![layer("a"), layer("b")]
    }

    fn look(probabilities: [f32; 3], time: [f32; 2]) -> Look {
        let row = |time: [f32; 2]| GateRow { time: time.to_vec(), channel: vec![0.0, 0.5] };
        Look {
            label: 0,
            is_right: false,
            probabilities: probabilities.to_vec(),
            gmacs_paper: 1.0,
            gmacs_all_in: 1.2,
            gates: vec![row(time), row([0.5, 0.5])],
        }
    }

    fn answer() -> Answer {
        let (layers, classes) = (layers(), ["still".to_owned(), "zoom".to_owned()]);
        let mut tally = Tally::new(&layers, &classes);
        tally
            .add(&[0, 2, 4], &[(look([0.5, 0.25, 0.25], [0.5, 0.0]), 0.1), (look([0.25, 0.25, 0.5], [0.0, 0.5]), 0.1)]);
        tally.add(&[30, 32, 34], &[(look([0.0, 1.0, 0.0], [0.0, 0.5]), 0.1), (look([0.0, 0.5, 0.5], [0.0, 0.5]), 0.1)]);
        let facts = Facts { source_frames: 50, fps: 25.0, ..Facts::default() };
        tally.answer("x.mp4".to_owned(), &facts, (2, 2.0))
    }

    #[test]
    fn probabilities_are_averaged_over_all_clips() {
        let answer = answer();
        let top: Vec<_> = answer.top.iter().map(|g| (g.label, g.class.as_str(), g.probability)).collect();
        assert_eq!(top, [(1, "zoom", 0.5), (2, "class 2", 0.3125)]);
        assert_eq!((answer.clips, answer.seconds), (4, 2.0));
        let windows: Vec<_> = answer.windows.iter().map(|w| (w.first_frame, w.last_frame, w.guess.label)).collect();
        assert_eq!(windows, [(0, 4, 0), (30, 34, 1)], "of two as likely the lower number");
    }

    #[test]
    fn what_a_layer_computes_is_averaged_too() {
        let layer = &answer().layers[0];
        assert_eq!((layer.temporal, layer.channel, layer.both), (0.625, 0.5, 0.3125));
        assert_eq!(
            (layer.temporal_live.as_slice(), layer.channel_live.as_slice()),
            (&[0.25, 0.75][..], &[0.0, 1.0][..])
        );
    }

    #[test]
    fn the_text_says_class_cost_and_layers() {
        let text = answer().text(true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "x.mp4: 2.0 s, 50 frames, 4 clips");
        assert_eq!(lines[1], "   50.0 %  zoom");
        assert_eq!(lines[3..5], ["  0:00.0 to 0:00.2  still", "  0:01.2 to 0:01.4  zoom"]);
        assert!(lines[5].contains("60.0 % of the backbone's 2.0000; 100.0 ms a clip"), "{text}");
        assert!(lines[6].starts_with("  computed by layer ▃▄"), "{text}");
    }

    #[test]
    fn the_json_is_one_line_with_every_field() {
        let json = serde_json::to_string(&answer()).expect("serialises");
        assert!(!json.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        for path in ["/file", "/top/0/class", "/gmacs/backbone", "/layers/1/temporal_live/0", "/windows/1/probability"]
        {
            assert!(json.pointer(path).is_some(), "{path}");
        }
    }
}
