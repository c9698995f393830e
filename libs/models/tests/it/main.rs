//! What the networks promise, checked through the public interface.

mod costs;
mod families;
mod import;
mod network;
mod published;
mod weights;

use models::{ClipShape, Dynamic, General, ModelConfig, Network, R2plus1dConfig};
use tch::{Device, Kind, Tensor};

/// A small dynamic network: four stages of one block.
fn small(change: impl Fn(&mut R2plus1dConfig)) -> ModelConfig {
    let mut config =
        R2plus1dConfig { blocks: [1; 4], widths: [6, 8, 10, 12], zero_gamma: false, ..R2plus1dConfig::r18(5) };
    choosing(&mut config.general);
    change(&mut config);
    ModelConfig::R2plus1d(config)
}

/// Every layer chooses, by gates that differ from clip to clip from the start.
fn choosing(general: &mut General) {
    general.dynamic = Dynamic::All;
    general.gate.output_std = 1.0;
    general.gate.hidden = 8;
}

fn clip(frames: i64, size: i64) -> ClipShape {
    ClipShape { frames, height: size, width: size }
}

fn build(config: &ModelConfig, clip: ClipShape) -> Network {
    seeded(config, clip, 1)
}

fn seeded(config: &ModelConfig, clip: ClipShape, seed: u64) -> Network {
    // Tests run side by side: threads of their own would only wait for each other.
    tch::set_num_threads(1);
    Network::build(config, clip, seed, Device::Cpu).expect("a good configuration")
}

/// Values in [-1, 1), a pure function of name and index: FNV-1a over the name, SplitMix64 over the index. The same as in
/// `golden/exchange.py`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let key = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (0..count as u64).map(move |index| {
        let z = key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / 8_388_608.0 - 1.0
    })
}

fn clips(shape: [i64; 5]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = uniform("clips", count).map(|value| value as f32).collect();
    Tensor::from_slice(&values).reshape(shape).to_kind(Kind::Float)
}

fn relative_error(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size());
    // A narrow network may be dead for a clip: all logits 0, and then nothing is off.
    (got - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]).max(f64::MIN_POSITIVE)
}
