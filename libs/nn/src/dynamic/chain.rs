//! Two dynamic layers of which the second reads each position by itself. In inference on the CPU a band of rows goes through both
//! while it is in cache: the features between them, the largest of a network, never lie in memory as a whole.

use std::ops::Range;

use tch::Tensor;

use super::dynamic_conv::{DynamicConv, live};
use super::fused::Filling;
use super::mix::Live;
use crate::conv_unit::After;
use crate::{LayerGates, Pass, Policy};

/// What of the features between is in use at a time: it stays in cache from where it is made to where it is read.
const BAND_BYTES: i64 = 2 << 20;

/// A dynamic layer, and what comes after it.
pub(crate) type Link<'a> = (&'a DynamicConv, &'a After<'a>);

/// `second(first(x))` for this state of the weights; what both weigh is recorded in `pass.gates`. Nothing where the layers are no
/// such pair, where nothing is skipped, or where what lies between them is small.
pub(crate) fn infer((first, second): (Link, Link), x_ncthw: &Tensor, weights: u64, pass: &mut Pass) -> Option<Tensor> {
    let bands = bands(first, second, x_ncthw)?;
    let forced = match pass.policy {
        Policy::Fixed(_) => true,
        Policy::Skip => false,
        Policy::Soft | Policy::Full => return None,
    };
    let gates = first.0.decide(x_ncthw, pass).0;
    pass.gates.push(gates);
    let forced = forced.then(|| second.0.decide(x_ncthw, pass).0);
    let clip = |clip: i64| {
        let gates = pass.gates[pass.gates.len() - 1].clip(clip);
        let begun = Begun::new(first, &x_ncthw.narrow(0, clip, 1), gates, weights);
        let gates = match &forced {
            Some(forced) => forced.clip(clip),
            None => second.0.decide(&begun.mean(&bands), pass).0,
        };
        let shortcut = second.1.shortcut.map(|all| all.narrow(0, clip, 1));
        let after = After { shortcut: shortcut.as_ref(), ..*second.1 };
        (begun.go_on((second.0, &after), &gates, &bands), gates)
    };
    let (outputs, gates): (Vec<Tensor>, Vec<LayerGates>) = (0..x_ncthw.size()[0]).map(clip).unzip();
    pass.gates.push(LayerGates::of_clips(&gates));
    Some(joined(outputs, 0))
}

/// One clip in the first layer: what its options read is computed.
struct Begun<'a> {
    link: Link<'a>,
    gates: LayerGates,
    live: Live,
    computed: Tensor,
    frames: i64,
    weights: u64,
}

impl<'a> Begun<'a> {
    fn new(link: Link<'a>, x_ncthw: &Tensor, gates: LayerGates, weights: u64) -> Self {
        let live = only(live(&gates));
        let computed = link.0.compute(x_ncthw, &live, weights);
        Self { link, gates, live, computed, frames: link.0.frames_out(x_ncthw.size()[2]), weights }
    }

    /// Rows of the first layer's output.
    fn band(&self, rows: &Range<i64>) -> Tensor {
        let (gates, live) = (&self.gates, &self.live);
        let filling = Filling { gates, live, frames: self.frames, rows: Some(rows.clone()) };
        self.link.0.fill(&self.computed, &filling, self.link.1)
    }

    /// The first layer's output, `[1, c, t, 1, 1]`, averaged over space: all that a gate reads. The bands are made once more
    /// when they go on, which costs less than to write them to memory and to read them again.
    fn mean(&self, bands: &[Range<i64>]) -> Tensor {
        let height = bands.last().map_or(0, |last| last.end);
        let share = |rows: &Range<i64>| {
            let mean = self.band(rows).mean_dim(&[3_i64, 4][..], true, None);
            mean * ((rows.end - rows.start) as f64 / height as f64)
        };
        bands.iter().map(share).reduce(|sum, share| sum + share).expect("a band at least")
    }

    /// The second layer's output.
    fn go_on(&self, (layer, after): Link, gates: &LayerGates, bands: &[Range<i64>]) -> Tensor {
        let live = only(live(gates));
        let parts = bands.iter().map(|rows| layer.compute(&self.band(rows), &live, self.weights)).collect();
        let whole = Filling { gates, live: &live, frames: layer.frames_out(self.frames), rows: None };
        layer.fill(&joined(parts, 3), &whole, after)
    }
}

/// Rows of what lies between the layers.
fn bands((first, after): Link, (second, _): Link, x_ncthw: &Tensor) -> Option<Vec<Range<i64>>> {
    let size = x_ncthw.size();
    let between = first.config().output(crate::FeatureShape {
        channels: size[1],
        frames: size[2],
        height: size[3],
        width: size[4],
    });
    let bytes = 4 * between.channels * between.frames * between.height * between.width;
    let count = (bytes / BAND_BYTES).min(between.height);
    let applies = count > 1 && after.shortcut.is_none() && second.reads_single_positions();
    applies.then(|| (0..count).map(|at| at * between.height / count..(at + 1) * between.height / count).collect())
}

fn only(live: Vec<Live>) -> Live {
    live.into_iter().next().expect("one clip")
}

fn joined(parts: Vec<Tensor>, axis: i64) -> Tensor {
    match parts.as_slice() {
        [part] => part.shallow_clone(),
        _ => Tensor::cat(&parts, axis),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use crate::{
        Activation, Axes, ConvConfig, ConvUnit, ConvUnitConfig, DynamicConfig, FeatureShape, ForcedGates, GateConfig,
        Init, ParamsBuilder, Pass, Policy, PolicyPlan,
    };

    use super::*;

    /// Large enough for three bands between the units.
    const X: FeatureShape = FeatureShape { channels: 3, frames: 7, height: 77, width: 60 };

    fn random(name: &str, shape: &[i64]) -> Tensor {
        Init::Normal(1.0).tensor((8, name), shape, Kind::Float, Device::Cpu)
    }

    /// A unit that makes `mid` channels, and one that reads single positions of them.
    fn units(mid: i64, stride: i64, onto: bool) -> [ConvUnit; 2] {
        let gate = GateConfig { hidden: 4, output_std: 2.0, ..GateConfig::default() };
        let config = |conv, activation| ConvUnitConfig {
            conv,
            conv_name: "conv",
            norm_name: Some("norm"),
            eps: 1e-5,
            gamma: 1.0,
            activation,
            dynamic: Some(DynamicConfig { axes: Axes::Both, search_space: 3, gate }),
        };
        let builder = ParamsBuilder::new(3, Kind::Float, Device::Cpu);
        let space = config(ConvConfig::same(X.channels, mid, [1, 3, 3], [1; 3]), Activation::Swish);
        let (space, between) = space.init(&builder.root().sub("space"), X);
        let last = if onto { Activation::None } else { Activation::Relu };
        let time = config(ConvConfig::same(mid, 6, [3, 1, 1], [stride, 1, 1]), last);
        let (time, _) = time.init(&builder.root().sub("time"), between);
        let params = builder.finish();
        tch::no_grad(|| {
            for param in params.trained() {
                let _ = param.tensor.shallow_clone().g_add_(&(random(&param.name, &param.tensor.size()) * 0.3));
            }
        });
        [space, time]
    }

    fn plan(clips: &[[f32; 6]]) -> PolicyPlan {
        let axis = |from: usize| {
            let rows = clips.iter().flat_map(|clip| {
                let mut row = clip[from..from + 3].to_vec();
                row[2] += if row.iter().all(|v| *v == 0.0) { 1.0 } else { 0.0 };
                row
            });
            Tensor::from_slice(&rows.collect::<Vec<f32>>()).reshape([clips.len() as i64, 3])
        };
        let layer = || ForcedGates { v_time_no: axis(0), v_channel_no: axis(3) };
        PolicyPlan { layers: vec![layer(), ForcedGates { v_time_no: axis(3), v_channel_no: axis(0) }] }
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.size() == b.size()
            && (a - b).abs().max().double_value(&[]) <= 1e-4 * b.abs().max().double_value(&[]).max(1e-6)
    }

    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![Just(0.0_f32), 0.05_f32..1.0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Clips that need the same and clips that don't, under the gates and forced: as by separate tensor operations.
        #[test]
        fn bands_through_two_units_are_what_the_units_give(
            mid in 50..60_i64, stride in 1..3_i64, onto in any::<bool>(), forced in any::<bool>(),
            clips in prop::collection::vec([weight(), weight(), weight(), weight(), weight(), weight()], 1..4),
        ) {
            let [space, time] = units(mid, stride, onto);
            let x = random("x", &[clips.len() as i64, X.channels, X.frames, X.height, X.width]);
            let shortcut = random("shortcut", &[clips.len() as i64, 6, (X.frames - 1) / stride + 1, X.height, X.width]);
            let plan = plan(&clips);
            let policy = if forced { Policy::Fixed(&plan) } else { Policy::Skip };
            let [(banded, gates), (plain, expected)] = [Some(1), None].map(|weights| tch::no_grad(|| {
                let mut pass = Pass { weights, ..Pass::new(false, &policy) };
                let y = space.forward_into((&time, onto.then_some(&shortcut)), &x, &mut pass);
                (y, pass.gates)
            }));
            prop_assert!(close(&banded, &plain));
            prop_assert_eq!(gates.len(), 2);
            for (own, plain) in gates.iter().zip(&expected) {
                prop_assert!(close(&own.v_time_no, &plain.v_time_no) && close(&own.v_channel_no, &plain.v_channel_no));
                prop_assert_eq!(own.dead_axes.count(), plain.dead_axes.count());
            }
        }
    }
}
