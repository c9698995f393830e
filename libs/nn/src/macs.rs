//! Multiply-adds of layers, from shapes alone.

/// Shape of one clip's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureShape {
    /// Channels.
    pub channels: i64,
    /// Frames.
    pub frames: i64,
    /// Rows.
    pub height: i64,
    /// Columns.
    pub width: i64,
}

impl FeatureShape {
    /// Positions of one channel of one frame.
    pub fn area(&self) -> u64 {
        (self.height * self.width) as u64
    }

    /// All values.
    pub fn len(&self) -> u64 {
        (self.channels * self.frames) as u64 * self.area()
    }

    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one convolution or linear layer costs a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCost {
    /// Full name of the layer.
    pub name: String,
    /// Shape of what it gives.
    pub output: FeatureShape,
    /// Multiply-adds of the full computation, `C(f)`.
    pub macs: u64,
    /// What can be saved, if the layer is dynamic.
    pub dynamic: Option<DynamicCost>,
}

/// Options of a dynamic layer and what comes with them.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicCost {
    /// `R` of every temporal option: 1, 2, 4.
    pub time_factors: Vec<i64>,
    /// `r` of every channel option: 1, 1/2, 1/4.
    pub channel_factors: Vec<f64>,
    /// Channels computed by every channel option: `ceil(r · c)`.
    pub channels: Vec<i64>,
    /// Multiply-adds of the gate.
    pub gate_macs: u64,
    /// Taps of a cheap kernel: 9.
    pub cheap_taps: u64,
}

/// Number of frames that are computed when every `stride`-th is.
pub(crate) fn anchors(frames: i64, stride: i64) -> i64 {
    (frames + stride - 1) / stride
}

impl LayerCost {
    /// Multiply-adds by the paper's count: `r / R · C(f)` at the largest live `r` and the smallest live `R`.
    ///
    /// `live_time` and `live_channel` tell which options are live; at least one of each is.
    pub fn paper_macs(&self, live_time: &[bool], live_channel: &[bool]) -> f64 {
        let Some(dynamic) = &self.dynamic else { return self.macs as f64 };
        let (time, channel) = (first_live(live_time), first_live(live_channel));
        self.macs as f64 * dynamic.channel_factors[channel] / dynamic.time_factors[time] as f64
    }

    /// The paper's count with the gate and the cheap operations of every live option.
    pub fn all_in_macs(&self, live_time: &[bool], live_channel: &[bool]) -> f64 {
        let Some(dynamic) = &self.dynamic else { return self.macs as f64 };
        let FeatureShape { channels, frames, .. } = self.output;
        let computed_frames = anchors(frames, dynamic.time_factors[first_live(live_time)]);
        let channel_fill: i64 = live(live_channel).map(|i| (channels - dynamic.channels[i]) * computed_frames).sum();
        let time_fill: i64 =
            live(live_time).map(|j| channels * (frames - anchors(frames, dynamic.time_factors[j]))).sum();
        let cheap = (channel_fill + time_fill) as u64 * self.output.area() * dynamic.cheap_taps;
        self.paper_macs(live_time, live_channel) + (cheap + dynamic.gate_macs) as f64
    }
}

fn live(options: &[bool]) -> impl Iterator<Item = usize> {
    options.iter().enumerate().filter(|(_, live)| **live).map(|(option, _)| option)
}

/// Options are sorted from the dearest to the cheapest: the first live one decides what is computed.
fn first_live(options: &[bool]) -> usize {
    live(options).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> LayerCost {
        LayerCost {
            name: "conv".into(),
            output: FeatureShape { channels: 5, frames: 3, height: 2, width: 2 },
            macs: 1200,
            dynamic: Some(DynamicCost {
                time_factors: vec![1, 2],
                channel_factors: vec![1.0, 0.5],
                channels: vec![5, 3],
                gate_macs: 7,
                cheap_taps: 9,
            }),
        }
    }

    #[test]
    fn the_dearest_live_option_decides() {
        assert_eq!(layer().paper_macs(&[true, true], &[true, true]), 1200.0);
        assert_eq!(layer().paper_macs(&[false, true], &[true, true]), 600.0);
        assert_eq!(layer().paper_macs(&[false, true], &[false, true]), 300.0);
    }

    #[test]
    fn all_in_adds_the_gate_and_the_cheap_kernels_of_every_live_option() {
        assert_eq!(layer().all_in_macs(&[true, false], &[true, false]), 1207.0);
        // Two of five channels rebuilt in three frames of four positions.
        assert_eq!(layer().all_in_macs(&[true, false], &[true, true]), (1207 + 2 * 3 * 4 * 9) as f64);
        // Two anchors of three frames: one frame rebuilt in all channels, two channels in two frames.
        assert_eq!(layer().all_in_macs(&[false, true], &[false, true]), (307 + (5 + 2 * 2) * 4 * 9) as f64);
    }
}
