//! Initial values: a pure function of the run's seed and the parameter's name.

use tch::{Device, Kind, Tensor};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Every element the same.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Normal with variance `2 / fan_out` (He), for convolutions `[out, in / groups, kernel…]`.
    KaimingFanOut,
    /// Uniform in `±sqrt(1 / fan_in)`, the customary start of a linear layer `[out, in]`.
    UniformFanIn,
    /// Depthwise kernels that copy their input: 1 in the middle, 0 around.
    CentreTap,
}

impl Init {
    /// The starting value of the parameter `name` in a run with this `seed`.
    pub fn tensor(self, (seed, name): (u64, &str), shape: &[i64], kind: Kind, device: Device) -> Tensor {
        let count = shape.iter().product::<i64>() as usize;
        let fan = |from: usize| shape[from..].iter().product::<i64>() as f64;
        let mut stream = Stream::new(seed, name);
        let values: Vec<f32> = match self {
            Init::Constant(value) => vec![value as f32; count],
            Init::Normal(deviation) => stream.normals(count, deviation),
            Init::KaimingFanOut => {
                let fan_out = shape[0] as f64 * fan(2);
                stream.normals(count, (2.0 / fan_out).sqrt())
            }
            Init::UniformFanIn => {
                let bound = fan(1).recip().sqrt();
                (0..count).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
            }
            Init::CentreTap => {
                let kernel = fan(1) as usize;
                (0..count).map(|i| if i % kernel == kernel / 2 { 1.0 } else { 0.0 }).collect()
            }
        };
        Tensor::from_slice(&values).reshape(shape).to_kind(kind).to_device(device)
    }
}

/// Random numbers as a pure function: SplitMix64, started from a seed and a name. Not cryptographic: it only has to be the
/// same everywhere, for ever (initial values and dropout masks come from it, so it is part of the checkpoint format).
///
/// ```
/// let draw = |name| nn::Stream::new(1, name).draw();
/// assert_eq!(draw("fc.dropout"), draw("fc.dropout"));
/// assert_ne!(draw("fc.dropout"), draw("fc.weight"));
/// ```
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of this seed and name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, then one mixing round with the seed.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut stream = Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        stream.0 = stream.draw();
        stream
    }

    /// Uniform over all of `u64`.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform over `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box-Muller, both values of each pair used.
    fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * deviation;
            let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
        }
        values.truncate(count);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(init: Init, name: &str, shape: &[i64]) -> Vec<f32> {
        Vec::try_from(init.tensor((1, name), shape, Kind::Float, Device::Cpu).flatten(0, -1)).expect("a float tensor")
    }

    #[test]
    fn values_depend_on_seed_and_name_only() {
        tch::manual_seed(3);
        let first = values(Init::Normal(1.0), "layer1.weight", &[64]);
        tch::manual_seed(4);
        assert_eq!(first, values(Init::Normal(1.0), "layer1.weight", &[64]));
        assert_ne!(first, values(Init::Normal(1.0), "layer2.weight", &[64]));
        let other = Init::Normal(1.0).tensor((2, "layer1.weight"), &[64], Kind::Float, Device::Cpu);
        assert_ne!(first, Vec::<f32>::try_from(other).expect("a float tensor"));
    }

    #[test]
    fn kaiming_has_the_variance_of_fan_out() {
        let values = values(Init::KaimingFanOut, "conv", &[64, 32, 1, 3, 3]);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        let expected = 2.0_f64 / (64.0 * 9.0);
        assert!(mean.abs() < 0.05 * expected.sqrt(), "mean {mean}");
        assert!((variance / expected - 1.0).abs() < 0.05, "variance {variance}, expected {expected}");
    }

    #[test]
    fn a_centre_tap_copies_its_input() {
        assert_eq!(values(Init::CentreTap, "cheap", &[1, 1, 3, 3]), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
