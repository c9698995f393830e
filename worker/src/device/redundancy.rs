//! How alike neighbouring feature maps of a network are, layer by layer: what its policies can save.

use models::{Mode, Observer, Policy};
use tch::{Kind, Tensor};

use super::measure::Subject;
use crate::compute::Batch;

/// Below this a map is flat, and its correlation with another means nothing.
const FLAT: f64 = 1e-12;

/// One layer's output, norm and activation included, over some clips.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRedundancy {
    /// The convolution.
    pub name: String,
    /// Of maps of one channel in neighbouring frames; none where there is one frame.
    pub frames: Option<Alike>,
    /// Of maps of neighbouring channels in one frame.
    pub channels: Option<Alike>,
}

/// How alike two maps are on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alike {
    /// Pearson's correlation over the positions; pairs with a flat map are left out.
    pub correlation: f64,
    /// Root mean square of the difference, as a multiple of the layer's standard deviation.
    pub rmse: f64,
}

impl Subject {
    /// Passes clips through the network, everything computed as in the backbone, and compares neighbouring maps.
    pub fn redundancy(&self, clips: &[Batch]) -> Vec<LayerRedundancy> {
        let mut comparison = Comparison::default();
        for clip in clips {
            comparison.next = 0;
            let x_ncthw = self.normalised(clip);
            let mode = Mode { train: false };
            tch::no_grad(|| self.network().forward_observed(&x_ncthw, (mode, &Policy::Full), &mut comparison));
        }
        let layer = |layer: Layer| LayerRedundancy {
            name: layer.name,
            frames: layer.frames.mean(),
            channels: layer.channels.mean(),
        };
        comparison.layers.into_iter().map(layer).collect()
    }
}

/// Sums over clips, by layer, in the order in which clips pass them.
#[derive(Debug, Default)]
struct Comparison {
    layers: Vec<Layer>,
    next: usize,
}

#[derive(Debug)]
struct Layer {
    name: String,
    frames: Sums,
    channels: Sums,
}

#[derive(Debug, Default)]
struct Sums {
    correlation: f64,
    correlated_pairs: f64,
    rmse: f64,
    pairs: f64,
}

impl Observer for Comparison {
    fn begin(&mut self) {}

    fn end(&mut self, layer: &str, output: &Tensor) {
        // The head's output has no maps.
        if output.dim() != 5 {
            return;
        }
        if self.next == self.layers.len() {
            self.layers.push(Layer { name: layer.to_owned(), frames: Sums::default(), channels: Sums::default() });
        }
        let sums = &mut self.layers[self.next];
        self.next += 1;
        sums.frames.add(output, 2);
        sums.channels.add(output, 1);
    }
}

impl Sums {
    /// Compares each map with the next one along `axis`.
    fn add(&mut self, y_ncthw: &Tensor, axis: i64) {
        let maps = y_ncthw.size()[axis as usize];
        if maps < 2 {
            return;
        }
        let y = y_ncthw.to_kind(Kind::Double).flatten(3, 4);
        let (a, b) = (y.narrow(axis, 0, maps - 1), y.narrow(axis, 1, maps - 1));
        let rmse = (&a - &b).square().mean_dim(-1, false, Kind::Double).sqrt();
        let deviation = y.std(false).double_value(&[]).max(FLAT);
        self.rmse += rmse.sum(Kind::Double).double_value(&[]) / deviation;
        self.pairs += rmse.numel() as f64;
        let centred = |x: &Tensor| x - x.mean_dim(-1, true, Kind::Double);
        let (a, b) = (centred(&a), centred(&b));
        let sum = |x: Tensor| x.sum_dim_intlist(-1, false, Kind::Double);
        let norms = (sum(a.square()) * sum(b.square())).sqrt();
        let is_shaped = norms.gt(FLAT).to_kind(Kind::Double);
        let correlations = sum(a * b) / norms.clamp_min(FLAT) * &is_shaped;
        self.correlation += correlations.sum(Kind::Double).double_value(&[]);
        self.correlated_pairs += is_shaped.sum(Kind::Double).double_value(&[]);
    }

    fn mean(&self) -> Option<Alike> {
        let alike = Alike {
            correlation: self.correlation / self.correlated_pairs.max(1.0),
            rmse: self.rmse / self.pairs.max(1.0),
        };
        (self.pairs > 0.0).then_some(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(values: &[f64], shape: &[i64], axis: i64) -> Alike {
        let mut sums = Sums::default();
        sums.add(&Tensor::from_slice(values).reshape(shape), axis);
        sums.mean().expect("pairs")
    }

    #[test]
    fn equal_maps_are_alike_and_opposite_ones_are_not() {
        // Two frames of 2 × 2.
        let same = alike(&[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0], &[1, 1, 2, 2, 2], 2);
        assert!((same.correlation - 1.0).abs() < 1e-9 && same.rmse < 1e-9, "{same:?}");
        let opposite = alike(&[1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0], &[1, 1, 2, 2, 2], 2);
        assert!((opposite.correlation + 1.0).abs() < 1e-9, "{opposite:?}");
        // Differences 3, 1, 1, 3 over a deviation of √1.25: √5 / √1.25 = 2.
        assert!((opposite.rmse - 2.0).abs() < 1e-9, "{opposite:?}");
    }

    #[test]
    fn flat_maps_have_no_correlation_and_channels_are_compared_within_a_frame() {
        // Three channels of one frame: shaped, the same doubled, flat.
        let channels = alike(&[0.0, 1.0, 0.0, 2.0, 5.0, 5.0], &[1, 3, 1, 1, 2], 1);
        assert!((channels.correlation - 1.0).abs() < 1e-9, "the pair with the flat one is left out: {channels:?}");
        let mut single = Sums::default();
        single.add(&Tensor::from_slice(&[1.0, 2.0]).reshape([1, 1, 1, 1, 2]), 1);
        assert_eq!(single.mean(), None, "one channel has no neighbour");
    }
}
