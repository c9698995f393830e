//! What is done to a training clip's pixels after the crop: RandAugment, then erasing.
//!
//! All of it is drawn once a clip and done to all its frames alike, so no motion appears that was not there. (PySlowFast augments
//! before it crops; here less than half of the pixels are touched, and nothing is decoded for it.)

use super::Stream;
use super::erase::Erased;
use super::operation::{Frame, Operation};
use crate::DataConfig;
use crate::config::RandAugment;

/// What was drawn for one clip.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Augment {
    operations: Vec<Operation>,
    erased: Option<Erased>,
}

/// Streams of a view's seed beside the one of its crop.
const OPERATIONS: u64 = 1;
const ERASING: u64 = 2;

impl Augment {
    pub(super) fn draw(config: &DataConfig, seed: u64) -> Self {
        let mut stream = Stream::aside(seed, OPERATIONS);
        let operations = config.rand_augment.iter().flat_map(|augment| operations(augment, &mut stream));
        let erased =
            config.erasing.and_then(|erasing| Erased::draw(&erasing, config.crop, &mut Stream::aside(seed, ERASING)));
        Self { operations: operations.collect(), erased }
    }

    /// Changes the pixels (thwc) of a cropped clip.
    pub(super) fn apply(&self, config: &DataConfig, pixels_thwc: &mut [u8]) {
        let side = config.crop as usize;
        let mean = config.mean.map(|mean| (f64::from(mean) * 255.0).round() as u8);
        for operation in &self.operations {
            let prepared = operation.prepare(side);
            for pixels in pixels_thwc.chunks_exact_mut(side * side * 3) {
                prepared.apply(Frame { pixels, side, mean });
            }
        }
        if let Some(erased) = &self.erased {
            erased.apply(config, pixels_thwc);
        }
    }
}

/// Every number is drawn, also for an operation that is not done.
fn operations(augment: &RandAugment, stream: &mut Stream) -> Vec<Operation> {
    let draw = |_| {
        let (which, is_done) = (stream.unit(), stream.unit() < augment.probability);
        let magnitude = augment.magnitude + augment.magnitude_std * stream.roughly_normal();
        let sign = if stream.unit() < 0.5 { -1.0 } else { 1.0 };
        is_done.then(|| Operation::new(which, magnitude.clamp(0.0, 10.0) / 10.0, sign))
    };
    (0..augment.operations).filter_map(draw).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Erasing, Fill};
    use crate::footage::{config, pictures};
    use crate::transform::View;

    fn augmented() -> DataConfig {
        let rand_augment = Some(RandAugment { probability: 1.0, ..RandAugment::default() });
        let erasing = Some(Erasing { probability: 1.0, ..Erasing::default() });
        DataConfig { rand_augment, erasing, short_side: [24, 24], crop: 20, ..config(3, 1) }
    }

    fn written(config: &DataConfig, seed: u64) -> Vec<u8> {
        let frames = pictures(30, 24, 3, |x, y, c| (x * 7 + y * 5 + c * 60) as u8);
        let mut out = vec![0; config.clip_bytes()];
        View::train(config, seed).write(config, &frames, &mut out);
        out
    }

    #[test]
    fn augmentation_moves_neither_crop_nor_start() {
        let plain = DataConfig { rand_augment: None, erasing: None, ..augmented() };
        for seed in 0..50 {
            let (with, without) = (View::train(&augmented(), seed), View::train(&plain, seed));
            assert_eq!(View { augment: Augment::default(), ..with }, without);
        }
        assert_ne!(written(&augmented(), 1), written(&plain, 1));
    }

    #[test]
    fn every_operation_is_drawn_and_about_half_are_done() {
        let once = RandAugment { operations: 1, ..RandAugment::default() };
        let drawn: Vec<Vec<Operation>> = (0..3000).map(|seed| operations(&once, &mut Stream::aside(seed, 1))).collect();
        let done = drawn.iter().filter(|list| !list.is_empty()).count();
        assert!((1400..1600).contains(&done), "{done} of 3000");
        let name = |operation: &Operation| format!("{operation:?}").split(['(', ' ']).next().map(str::to_owned);
        let names: std::collections::BTreeSet<_> = drawn.iter().flatten().map(name).collect();
        assert_eq!(names.len(), 15, "{names:?}");
    }

    #[test]
    fn validation_is_left_alone() {
        let frames = pictures(30, 24, 3, |x, y, c| (x * 7 + y * 5 + c * 60) as u8);
        let of = |config: &DataConfig| {
            let mut out = vec![0; config.clip_bytes()];
            View::val(config).write(config, &frames, &mut out);
            out
        };
        assert_eq!(of(&augmented()), of(&DataConfig { rand_augment: None, erasing: None, ..augmented() }));
    }

    proptest! {
        #[test]
        fn a_clip_follows_its_seed_and_all_frames_are_treated_alike(seed: u64) {
            let config = DataConfig { erasing: Some(Erasing { fill: Fill::Mean, ..Erasing::default() }), ..augmented() };
            let clip = written(&config, seed);
            prop_assert_eq!(&clip, &written(&config, seed));
            // The source's frames are equal, so the augmented ones are.
            let frames: Vec<&[u8]> = clip.chunks(20 * 20 * 3).collect();
            prop_assert!(frames.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
