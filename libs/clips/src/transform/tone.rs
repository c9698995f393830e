//! Colours: each pixel by its own value, the frame's histogram or its neighbours.

use super::operation::Frame;

/// Replaces every value by what `change` makes of it.
pub(super) fn by_value(pixels: &mut [u8], change: impl Fn(u8) -> u8) {
    let mut table = [0; 256];
    for (value, place) in (0..=255).zip(&mut table) {
        *place = change(value);
    }
    pixels.iter_mut().for_each(|pixel| *pixel = table[usize::from(*pixel)]);
}

/// Replaces the values of each channel by the table that `make` makes of its histogram.
pub(super) fn by_channel(pixels: &mut [u8], make: fn(&[u32; 256]) -> [u8; 256]) {
    let mut counts = [[0; 256]; 3];
    for pixel in pixels.chunks_exact(3) {
        counts.iter_mut().zip(pixel).for_each(|(counts, value)| counts[usize::from(*value)] += 1);
    }
    let tables = counts.each_ref().map(make);
    for pixel in pixels.chunks_exact_mut(3) {
        tables.iter().zip(pixel).for_each(|(table, value)| *value = table[usize::from(*value)]);
    }
}

/// A table that leaves values as they are.
fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// The darkest value goes to 0 and the lightest to 255.
pub(super) fn auto_contrast(counts: &[u32; 256]) -> [u8; 256] {
    let low = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let high = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
    if high <= low {
        return identity();
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8)
}

/// Equally many pixels up to each equal step of the scale.
pub(super) fn equalize(counts: &[u32; 256]) -> [u8; 256] {
    let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
    let step = (counts.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return identity();
    }
    let mut seen = step / 2;
    counts.map(|count| {
        let value = (seen / step).min(255) as u8;
        seen += count;
        value
    })
}

/// Between two values: `from` at factor 0, `to` at 1, and on in the same direction.
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)).clamp(0.0, 255.0) as u8
}

/// The grey of a pixel, by the weights of ITU-R 601 in 16 bits.
fn grey(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

/// Away from each pixel's own grey.
pub(super) fn colour(pixels: &mut [u8], factor: f32) {
    for pixel in pixels.chunks_exact_mut(3) {
        let grey = grey(pixel);
        pixel.iter_mut().for_each(|value| *value = blend(grey, *value, factor));
    }
}

/// Away from the frame's mean grey.
pub(super) fn contrast(pixels: &mut [u8], factor: f32) {
    let count = pixels.len() / 3;
    let sum: u64 = pixels.chunks_exact(3).map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / count as f64 + 0.5) as u8;
    by_value(pixels, |value| blend(mean, value, factor));
}

/// Away from the frame smoothed by `1 1 1 / 1 5 1 / 1 1 1`; the border is not smoothed.
pub(super) fn sharpness(frame: Frame, factor: f32) {
    let Frame { pixels, side, .. } = frame;
    let (source, row) = (pixels.to_vec(), side * 3);
    for y in 1..side.saturating_sub(1) {
        for x in 3..row - 3 {
            let at = y * row + x;
            let around: u32 = [at - row, at, at + row]
                .into_iter()
                .flat_map(|middle| [middle - 3, middle, middle + 3])
                .map(|at| u32::from(source[at]))
                .sum();
            // Thirteen parts in all, rounded.
            let smooth = (2 * (around + 4 * u32::from(source[at])) + 13) / 26;
            pixels[at] = blend(smooth as u8, source[at], factor);
        }
    }
}
