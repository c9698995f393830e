//! Weighted sums of a dynamic layer's options, by separate tensor operations: for any device and element type, and the
//! oracle of the fused form (`fused.rs`).
//!
//! `Y_c = Σ_i v_c[i] · reduce_channel(F, r_i)`, then `Y = Σ_j v_t[j] · reduce_time(Y_c, R_j)`. Only a part of `F` need be
//! there: the channels of the largest live `r` and the frames of the smallest live `R`, since every other live option
//! reads a subset of them.

use tch::Tensor;

use super::cheap::Cheap;
use crate::macs::anchors;
use crate::{LayerGates, Options, gpu};

/// Which options are summed. The first live one of each axis says what was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) time: Vec<bool>,
    pub(crate) channel: Vec<bool>,
}

impl Live {
    /// All options of a layer.
    pub(crate) fn all(options: &Options) -> Self {
        let (time, channel) = options.counts();
        Self { time: vec![true; time], channel: vec![true; channel] }
    }

    /// The first live option of the temporal and of the channel axis.
    pub(crate) fn first(&self) -> (usize, usize) {
        let first = |live: &[bool]| live.iter().position(|live| *live).unwrap_or(0);
        (first(&self.time), first(&self.channel))
    }
}

/// What a layer mixes with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer<'a> {
    pub(crate) cheap: &'a Cheap,
    pub(crate) options: &'a Options,
    pub(crate) live: &'a Live,
}

impl Mixer<'_> {
    /// `Y [n, c, frames, h, w]` from the computed part of `F`, in the fastest form that there is.
    pub(crate) fn mix(&self, computed_ncthw: &Tensor, gates: &LayerGates, frames: i64) -> Tensor {
        match super::fused::mix(self, computed_ncthw, gates, frames) {
            Some(y) => y,
            None if gpu::of(computed_ncthw).is_some() => gpu::filled(&self.mix_plainly(computed_ncthw, gates, frames)),
            None => self.mix_plainly(computed_ncthw, gates, frames),
        }
    }

    /// The same by separate tensor operations.
    pub(crate) fn mix_plainly(&self, computed_ncthw: &Tensor, gates: &LayerGates, frames: i64) -> Tensor {
        let (_, first) = self.live.first();
        let computed_ncthw = gpu::own_channels(computed_ncthw, self.options.channels[first]);
        let kind = computed_ncthw.kind();
        let y_c = self.mix_channels(&computed_ncthw, &gates.v_channel_no.to_kind(kind));
        self.mix_frames(&y_c, &gates.v_time_no.to_kind(kind), frames)
    }

    /// All channels of the computed frames, in bands: a band is computed under the options that keep it and rebuilt
    /// under the others.
    fn mix_channels(&self, f_ncthw: &Tensor, v_no: &Tensor) -> Tensor {
        let (_, first) = self.live.first();
        let kept = &self.options.channels;
        let rebuilt: Vec<Option<Tensor>> = (0..kept.len())
            .map(|i| (i > 0 && self.live.channel[i]).then(|| self.cheap.rebuild_channels(i, f_ncthw)))
            .collect();
        let bands = (0..kept.len()).rev().map(|s| {
            let (low, high) = (kept.get(s + 1).copied().unwrap_or(0), kept[s]);
            let direct = (s >= first).then(|| f_ncthw.narrow(1, low, high - low) * self.weight(v_no, first..s + 1));
            let others = (s + 1..kept.len()).filter_map(|i| {
                let band = rebuilt[i].as_ref()?.narrow(1, low - kept[i], high - low);
                Some(band * self.weight(v_no, i..i + 1))
            });
            direct.into_iter().chain(others).reduce(|sum, term| sum + term).expect("an option is live")
        });
        concatenate(&bands.collect::<Vec<_>>())
    }

    /// All frames, in phases of the largest live `R`: in a phase every option either has the frame or rebuilds it.
    fn mix_frames(&self, y_ncthw: &Tensor, v_no: &Tensor, frames: i64) -> Tensor {
        let (first, _) = self.live.first();
        let factors = &self.options.time;
        let live: Vec<usize> = (0..factors.len()).filter(|j| self.live.time[*j]).collect();
        let (step, period) = (factors[first], live.last().map_or(1, |j| factors[*j]));
        let phases = (0..period.min(frames)).map(|phase| {
            let count = anchors(frames - phase, period);
            // Frames `from, from + period, …`, as many as this phase has.
            let at = |from: i64| y_ncthw.slice(2, from / step, None, period / step).narrow(2, 0, count);
            let having: Vec<usize> = live.iter().copied().filter(|j| phase % factors[*j] == 0).collect();
            let sum = having.iter().map(|j| self.weight(v_no, *j..*j + 1)).reduce(|sum, v| sum + v);
            let direct = sum.map(|weight| at(phase) * weight);
            let others = live.iter().filter(|j| !having.contains(j)).map(|j| {
                let k = phase % factors[*j];
                self.cheap.rebuild_frames(*j, k, &at(phase - k)) * self.weight(v_no, *j..*j + 1)
            });
            direct.into_iter().chain(others).reduce(|sum, term| sum + term).expect("an option is live")
        });
        interleave(&phases.collect::<Vec<_>>(), frames)
    }

    /// Sum of the weights of the options in this range, `[n, 1, 1, 1, 1]`.
    fn weight(&self, v_no: &Tensor, range: std::ops::Range<usize>) -> Tensor {
        let v_no = v_no.narrow(1, range.start as i64, range.len() as i64);
        let v_n = if range.len() == 1 { v_no } else { v_no.sum_dim_intlist(&[1_i64][..], true, None) };
        v_n.reshape([-1, 1, 1, 1, 1])
    }
}

fn concatenate(bands: &[Tensor]) -> Tensor {
    match bands {
        [band] => band.shallow_clone(),
        bands => Tensor::cat(bands, 1),
    }
}

/// Phase `p` holds the frames `p, p + P, …` of the result.
fn interleave(phases: &[Tensor], frames: i64) -> Tensor {
    let [first, others @ ..] = phases else { unreachable!("a clip has a frame") };
    if others.is_empty() {
        return first.shallow_clone();
    }
    let longest = first.size()[2];
    let padded = phases.iter().map(|phase| match longest - phase.size()[2] {
        0 => phase.shallow_clone(),
        missing => phase.constant_pad_nd([0, 0, 0, 0, 0, missing]),
    });
    let stacked = Tensor::stack(&padded.collect::<Vec<_>>(), 3);
    stacked.flatten(2, 3).narrow(2, 0, frames)
}
