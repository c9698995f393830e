//! Random erasing: a box of the crop that every frame loses.

use super::Stream;
use crate::DataConfig;
use crate::config::{Erasing, Fill};

/// The box of one clip.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Erased {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    fill: Fill,
    /// Where the noise starts.
    noise_seed: u64,
}

/// Boxes that are drawn until one fits into the crop.
const ATTEMPTS: usize = 10;

impl Erased {
    /// A box in a square of `side` pixels; none if this clip keeps all, or if no box that was drawn fits.
    pub(super) fn draw(erasing: &Erasing, side: u32, stream: &mut Stream) -> Option<Self> {
        if stream.unit() >= erasing.probability {
            return None;
        }
        let noise_seed = stream.draw();
        let (side, [low, high]) = (f64::from(side), erasing.area);
        (0..ATTEMPTS).find_map(|_| {
            let (area, turn, down, right) = (stream.unit(), stream.unit(), stream.unit(), stream.unit());
            let area = (low + area * (high - low)) * side * side;
            // As many flat boxes as steep ones. By functions that give the same bits on every machine.
            let aspect = libm::exp((2.0 * turn - 1.0) * -libm::log(erasing.aspect));
            let (height, width) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
            let fits = (1.0..side).contains(&height) && (1.0..side).contains(&width);
            let place = |size: f64, at: f64| ((side - size + 1.0) * at) as usize;
            fits.then(|| Self {
                top: place(height, down),
                left: place(width, right),
                height: height as usize,
                width: width as usize,
                fill: erasing.fill,
                noise_seed,
            })
        })
    }

    /// Fills the box in every frame.
    pub(super) fn apply(&self, config: &DataConfig, pixels_thwc: &mut [u8]) {
        let row_bytes = config.crop as usize * 3;
        let mut noise = Stream::new(self.noise_seed);
        for frame in pixels_thwc.chunks_exact_mut(row_bytes * config.crop as usize) {
            for row in frame.chunks_exact_mut(row_bytes).skip(self.top).take(self.height) {
                for (at, value) in row[self.left * 3..][..self.width * 3].iter_mut().enumerate() {
                    *value = self.value(config, at % 3, &mut noise);
                }
            }
        }
    }

    fn value(&self, config: &DataConfig, channel: usize, noise: &mut Stream) -> u8 {
        let (mean, std) = (f64::from(config.mean[channel]), f64::from(config.std[channel]));
        let value = match self.fill {
            Fill::Mean => mean,
            Fill::Noise => mean + std * noise.roughly_normal(),
        };
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::footage::config;

    fn erased(config: &DataConfig, erasing: &Erasing, seed: u64) -> (Vec<u8>, Option<Erased>) {
        let mut pixels = vec![7; config.clip_bytes()];
        let erased = Erased::draw(erasing, config.crop, &mut Stream::new(seed));
        erased.iter().for_each(|erased| erased.apply(config, &mut pixels));
        (pixels, erased)
    }

    #[test]
    fn as_many_clips_lose_a_box_as_are_asked_for() {
        let config = config(1, 1);
        let count = |probability| {
            let erasing = Erasing { probability, ..Erasing::default() };
            (0..1000).filter(|seed| erased(&config, &erasing, *seed).1.is_some()).count()
        };
        assert_eq!(count(0.0), 0);
        assert!((210..290).contains(&count(0.25)), "{}", count(0.25));
        assert!(count(1.0) > 990, "{}", count(1.0));
    }

    #[test]
    fn noise_has_the_mean_and_deviation_of_the_data() {
        let config = DataConfig { mean: [0.3, 0.5, 0.5], std: [0.1, 0.05, 0.2], ..config(8, 1) };
        let whole = Erased { top: 0, left: 0, height: 56, width: 56, fill: Fill::Noise, noise_seed: 5 };
        let mut pixels = vec![0; config.clip_bytes()];
        whole.apply(&config, &mut pixels);
        for channel in 0..2 {
            let values: Vec<f64> = pixels.iter().skip(channel).step_by(3).map(|v| f64::from(*v) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
            let (wanted, deviation) = (f64::from(config.mean[channel]), f64::from(config.std[channel]));
            assert!((mean - wanted).abs() < 0.003 && (std / deviation - 1.0).abs() < 0.03, "{mean} {std}");
        }
        assert_ne!(pixels[..9408], pixels[9408..18816], "each frame has its own");
    }

    proptest! {
        #[test]
        fn only_the_box_changes_and_its_area_and_shape_are_as_asked(seed: u64, side in 24_u32..80, low in 0.02_f64..0.2) {
            let config = DataConfig { crop: side, short_side: [side, side], ..config(2, 1) };
            let erasing = Erasing { probability: 1.0, area: [low, low + 0.1], aspect: 0.5, fill: Fill::Mean };
            let (pixels, found) = erased(&config, &erasing, seed);
            prop_assert_eq!(&pixels, &erased(&config, &erasing, seed).0);
            let side = side as usize;
            let Some(Erased { top, left, height, width, .. }) = found else {
                return Err(TestCaseError::fail("an area of a third fits"));
            };
            prop_assert!(top + height <= side && left + width <= side);
            // Each side is rounded by half a pixel.
            let (h, w, total) = (height as f64, width as f64, (side * side) as f64);
            prop_assert!((h + 0.5) * (w + 0.5) >= low * total && (h - 0.5) * (w - 0.5) <= (low + 0.1) * total);
            prop_assert!((h + 0.5) / (w - 0.5) >= 0.5 && (h - 0.5) / (w + 0.5) <= 2.0);
            for (at, value) in pixels.iter().enumerate() {
                let (y, x) = (at / 3 / side % side, at / 3 % side);
                let inside = (top..top + height).contains(&y) && (left..left + width).contains(&x);
                prop_assert_eq!(*value != 7, inside);
            }
        }
    }
}
