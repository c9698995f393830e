//! The view that a model gets of a clip: where it starts, how large it is shown, which square of it, mirrored or not, and what
//! is done to its pixels then.
//!
//! A training view is drawn from one seed alone, and every number is drawn whether it is used or not, so a change of
//! one setting does not move the others. Resizing is integer arithmetic: all machines give the same bytes.

mod augment;
mod erase;
mod geometry;
mod operation;
mod tone;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::Jitter;
use crate::{DataConfig, Frames, sample};
use augment::Augment;

/// What is shown of a clip, before it is known how long and how large the clip is.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    start: Choice,
    short_side: u32,
    left: Choice,
    top: Choice,
    flip: bool,
    augment: Augment,
}

/// A stream of random numbers that is the same on every machine, for ever.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Another stream of the same seed, for another purpose: nothing drawn here moves what is drawn there.
    pub fn aside(seed: u64, purpose: u64) -> Self {
        let mut stream = Self::new(seed);
        stream.0.set_stream(purpose);
        stream
    }

    /// Uniform over all of `u64`.
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        unit(self.draw())
    }

    /// Normal, to the eye of a colour: eight bytes added up, without mean and of deviation 1.
    pub fn roughly_normal(&mut self) -> f64 {
        let sum: u32 = self.draw().to_le_bytes().into_iter().map(u32::from).sum();
        // Eight times the variance of a byte is 8 · (256² − 1) / 12 = 43690.
        (f64::from(sum) - 8.0 * 127.5) / 43690.0_f64.sqrt()
    }
}

/// The stream beside a clip's own that its further views are drawn from; others are in `augment`.
const VIEWS: u64 = 3;

fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// A position between the first and the last that is possible.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Centre,
    /// A uniform draw from all of `u64`, to be scaled down to the number of possibilities.
    Drawn(u64),
}

impl Choice {
    /// One of `0..count`.
    fn of(self, count: u32) -> u32 {
        match self {
            Self::Centre => sample::centre(count),
            Self::Drawn(draw) => ((u128::from(draw) * u128::from(count)) >> 64) as u32,
        }
    }

    /// A short side within the recipe's range.
    fn side(self, config: &DataConfig) -> u32 {
        let [low, high] = config.short_side;
        match (config.jitter, self) {
            (Jitter::InverseUniform, Self::Drawn(draw)) => {
                let [most, least] = [low, high].map(|side| 1.0 / f64::from(side));
                ((1.0 / (least + unit(draw) * (most - least))).round() as u32).clamp(low, high)
            }
            _ => low + self.of(high - low + 1),
        }
    }
}

impl View {
    /// The training view of `seed`.
    pub fn train(config: &DataConfig, seed: u64) -> Self {
        let mut random = Stream::new(seed);
        let mut draw = || Choice::Drawn(random.draw());
        let (start, size, left, top, flip) = (draw(), draw(), draw(), draw(), draw());
        Self {
            start,
            short_side: size.side(config),
            left,
            top,
            flip: config.flip && flip.of(2) == 1,
            augment: Augment::draw(config, seed),
        }
    }

    /// The seed of one of the views that a batch shows of a clip. The first has the clip's own, so that more views change
    /// nothing of it.
    pub fn seed_of(seed: u64, view: u32) -> u64 {
        let mut views = Stream::aside(seed, VIEWS);
        (0..view).fold(seed, |_, _| views.draw())
    }

    /// The view of validation: the middle of everything.
    pub fn val(config: &DataConfig) -> Self {
        let centre = Choice::Centre;
        Self {
            start: centre,
            short_side: config.short_side[0],
            left: centre,
            top: centre,
            flip: false,
            augment: Augment::default(),
        }
    }

    /// Whether left and right are exchanged.
    pub fn is_mirrored(&self) -> bool {
        self.flip
    }

    /// The short side that frames are scaled to, pixels.
    pub fn short_side(&self) -> u32 {
        self.short_side
    }

    /// The source frames that this view shows, in order.
    pub fn indices(&self, config: &DataConfig, source_frames: u32) -> Vec<u32> {
        sample::indices(config, source_frames, &|starts| self.start.of(starts))
    }

    /// Writes the view of a clip as thwc bytes.
    ///
    /// # Panics
    /// If `out` is not [`DataConfig::clip_bytes`] long, a frame of the view was not decoded, or the frames are smaller
    /// than [`DataConfig::decoded_short_side`].
    pub fn write(&self, config: &DataConfig, frames: &Frames, out: &mut [u8]) {
        assert_eq!(out.len(), config.clip_bytes(), "one clip's place in the batch");
        let window = self.window(config, frames);
        let indices = self.indices(config, frames.source_frames);
        let picture_bytes = out.len() / indices.len();
        for (index, out) in indices.into_iter().zip(out.chunks_exact_mut(picture_bytes)) {
            let picture = frames.picture(index).expect("all frames of the view are decoded");
            window.write(picture, frames.width as usize, out);
        }
        self.augment.apply(config, out);
    }

    /// Where each pixel of the crop comes from.
    fn window(&self, config: &DataConfig, frames: &Frames) -> Window {
        let (width, height) = crate::decode::scaled_size(frames.width, frames.height, self.short_side);
        let left = self.left.of(width - config.crop + 1);
        let top = self.top.of(height - config.crop + 1);
        let mut columns = taps(frames.width, width, left..left + config.crop);
        if self.flip {
            columns.reverse();
        }
        Window { columns, rows: taps(frames.height, height, top..top + config.crop) }
    }
}

/// One output coordinate: between source `at` and `next`, `weight` parts of [`ONE`] towards `next`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    at: usize,
    next: usize,
    weight: u32,
}

/// Bits of a weight: two blends of 8-bit values fit into 32.
const ONE_BITS: u32 = 11;
/// Fixed-point 1.
const ONE: u32 = 1 << ONE_BITS;

/// Bilinear taps (half-pixel centres) of some coordinates of an axis that is resized from `from` to `to`.
fn taps(from: u32, to: u32, wanted: std::ops::Range<u32>) -> Vec<Tap> {
    let (from, to) = (i64::from(from), i64::from(to));
    let one = i64::from(ONE);
    let tap = |x: u32| {
        // (x + 1/2) * from / to - 1/2, times ONE.
        let place = ((2 * i64::from(x) + 1) * from * one / to - one) / 2;
        let place = place.clamp(0, (from - 1) * one);
        let at = (place / one) as usize;
        Tap { at, next: (at + 1).min(from as usize - 1), weight: (place % one) as u32 }
    };
    wanted.map(tap).collect()
}

struct Window {
    columns: Vec<Tap>,
    rows: Vec<Tap>,
}

impl Window {
    fn write(&self, picture: &[u8], width: usize, out: &mut [u8]) {
        let row_bytes = width * 3;
        let out_row_bytes = self.columns.len() * 3;
        let mut blended = vec![0_u32; row_bytes];
        for (tap, out) in self.rows.iter().zip(out.chunks_exact_mut(out_row_bytes)) {
            let row = |y: usize| &picture[y * row_bytes..][..row_bytes];
            blend(row(tap.at), row(tap.next), (tap.weight, &mut blended));
            self.write_row(&blended, out);
        }
    }

    fn write_row(&self, blended: &[u32], out: &mut [u8]) {
        for (tap, out) in self.columns.iter().zip(out.chunks_exact_mut(3)) {
            let (near, far) = (&blended[tap.at * 3..][..3], &blended[tap.next * 3..][..3]);
            for ((out, near), far) in out.iter_mut().zip(near).zip(far) {
                // Rounded; the weights add up to ONE * ONE, so the result fits a byte.
                *out = ((near * (ONE - tap.weight) + far * tap.weight + ONE * ONE / 2) >> (2 * ONE_BITS)) as u8;
            }
        }
    }
}

/// Between two rows, `weight` parts of [`ONE`] towards the lower one. Not divided yet: nothing is rounded twice.
fn blend(upper: &[u8], lower: &[u8], (weight, out): (u32, &mut [u32])) {
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        *out = u32::from(*upper) * (ONE - weight) + u32::from(*lower) * weight;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::footage::{config, pictures};

    #[test]
    fn a_view_follows_its_seed_alone() {
        let config = config(8, 4);
        assert_eq!(View::train(&config, 7), View::train(&config, 7));
        assert_ne!(View::train(&config, 7), View::train(&config, 8));
    }

    /// Part of the checkpoint format: a resumed run must meet the same views.
    #[test]
    fn further_views_have_seeds_of_their_own_that_never_change() {
        assert_eq!([0, 1, 2].map(|view| View::seed_of(7, view)), GOLDEN_SEEDS);
        assert_ne!(View::seed_of(8, 1), View::seed_of(7, 1));
    }

    const GOLDEN_SEEDS: [u64; 3] = [7, 3_348_856_302_973_006_449, 1_713_045_363_199_913_294];

    #[test]
    fn switching_the_flip_on_moves_nothing_else() {
        let plain = config(8, 4);
        let flipped = DataConfig { flip: true, ..config(8, 4) };
        for seed in 0..50 {
            let (a, b) = (View::train(&plain, seed), View::train(&flipped, seed));
            assert_eq!(View { flip: false, ..b }, a);
        }
        let share = (0..1000).filter(|&seed| View::train(&flipped, seed).flip).count();
        assert!((400..600).contains(&share), "{share} of 1000 are mirrored");
    }

    #[test]
    fn every_size_of_the_range_occurs() {
        let config = config(8, 4);
        let sizes: std::collections::BTreeSet<u32> =
            (0..500).map(|seed| View::train(&config, seed).short_side).collect();
        assert_eq!(sizes, (64..=72).collect());
    }

    /// The inverse is uniform, so the middle of the inverses is the median of the sizes.
    #[test]
    fn inverse_uniform_sizes_are_small_more_often() {
        let config = DataConfig { short_side: [256, 320], jitter: Jitter::InverseUniform, ..config(8, 4) };
        let mut sizes: Vec<u32> = (0..2001).map(|seed| View::train(&config, seed).short_side).collect();
        sizes.sort_unstable();
        assert!((256..=258).contains(&sizes[0]) && (318..=320).contains(&sizes[2000]), "{} {}", sizes[0], sizes[2000]);
        let median = 2.0 / (1.0 / 256.0 + 1.0 / 320.0);
        assert!((f64::from(sizes[1000]) - median).abs() < 3.0, "{} {median}", sizes[1000]);
    }

    #[test]
    fn an_unresized_crop_copies_pixels() {
        let config = DataConfig { short_side: [16, 16], crop: 8, frames: 1, stride: 1, ..config(1, 1) };
        let frames = pictures(20, 16, 1, |x, y, c| (x * 10 + y + c * 3) as u8);
        let mut out = vec![0; config.clip_bytes()];
        View::val(&config).write(&config, &frames, &mut out);
        let expected: Vec<u8> = (0..8)
            .flat_map(|y| (0..8).flat_map(move |x| (0..3).map(move |c| ((x + 6) * 10 + y + 4 + c * 3) as u8)))
            .collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_mirrored_view_is_the_view_reversed() {
        let config = DataConfig { short_side: [16, 24], crop: 12, ..config(1, 1) };
        let frames = pictures(30, 24, 1, |x, y, c| (x * 7 + y * 3 + c) as u8);
        let view = View::train(&config, 3);
        let mut plain = vec![0; config.clip_bytes()];
        let mut mirrored = plain.clone();
        view.write(&config, &frames, &mut plain);
        View { flip: true, ..view }.write(&config, &frames, &mut mirrored);
        for (plain, mirrored) in plain.chunks(36).zip(mirrored.chunks(36)) {
            let reversed: Vec<u8> = mirrored.chunks(3).rev().flatten().copied().collect();
            assert_eq!(plain, reversed);
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_when_resized() {
        let taps = taps(72, 64, 0..64);
        let value = |tap: &Tap| tap.at as f64 + f64::from(tap.weight) / f64::from(ONE);
        for (x, tap) in taps.iter().enumerate() {
            let exact = (x as f64 + 0.5) * 72.0 / 64.0 - 0.5;
            assert!((value(tap) - exact).abs() < 1e-3, "column {x} comes from {} instead of {exact}", value(tap));
        }
    }

    proptest! {
        #[test]
        fn any_view_of_any_clip_is_written(
            seed: u64, width in 24u32..60, tall in 0u32..40, low in 8u32..16, more in 0u32..9, source in 1u32..12
        ) {
            let high = low + more;
            let (width, height) = crate::decode::scaled_size(width, width + tall, high);
            let config = DataConfig { short_side: [low, high], crop: 8, flip: true, ..config(3, 2) };
            let frames = pictures(width, height, source, |_, _, _| 200);
            let mut out = vec![0; config.clip_bytes()];
            View::train(&config, seed).write(&config, &frames, &mut out);
            // A flat picture stays flat: no tap leaves the picture, all weights add up.
            prop_assert!(out.iter().all(|&b| b == 200));
        }
    }
}
