//! The operations of RandAugment, as the Python Imaging Library defines them, on one frame of bytes.

use super::geometry::{Affine, Sampler};
use super::tone;

/// A square frame of RGB bytes, rows one after the other.
pub(super) struct Frame<'a> {
    pub(super) pixels: &'a mut [u8],
    pub(super) side: usize,
    /// The data's mean colour: what stands where nothing is.
    pub(super) mean: [u8; 3],
}

/// One operation with its parameter. None mirrors a clip: what `flip = false` protects, left and right, stays. The geometric
/// ones change by how much, not to which side, something moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operation {
    /// Every channel stretched to 0..255.
    AutoContrast,
    /// Every channel's histogram made flat.
    Equalize,
    /// `255 − x`.
    Invert,
    /// About the centre, counter-clockwise, by radians.
    Rotate(f64),
    /// So many bits of each colour stay.
    Posterize(u32),
    /// Values from this on are inverted.
    Solarize(u32),
    /// Added to values below 128.
    SolarizeAdd(u32),
    /// Between grey (0) and the frame (1), and beyond.
    Colour(f32),
    /// Between the mean grey (0) and the frame (1), and beyond.
    Contrast(f32),
    /// Between black (0) and the frame (1), and beyond.
    Brightness(f32),
    /// Between smoothed (0) and the frame (1), and beyond.
    Sharpness(f32),
    /// Columns shifted by this part of the row.
    ShearX(f64),
    /// Rows shifted by this part of the column.
    ShearY(f64),
    /// To the side, by this part of the width.
    TranslateX(f64),
    /// Up or down, by this part of the height.
    TranslateY(f64),
}

/// An operation on frames of one size.
pub(super) enum Prepared {
    Tone(Operation),
    Geometry(Sampler),
}

impl Operation {
    /// The operation at `which` (0 to 1) of the list, all alike; `level` is from 0 to 1, and some operations go either way.
    /// Ranges are timm's for its increasing set, except that a posterised frame keeps a bit: without any it is black.
    pub(super) fn new(which: f64, level: f64, sign: f64) -> Self {
        let blend = (1.0 + sign * 0.9 * level) as f32;
        match (which * 15.0) as u32 {
            0 => Self::AutoContrast,
            1 => Self::Equalize,
            2 => Self::Invert,
            3 => Self::Rotate(sign * level * 30.0_f64.to_radians()),
            4 => Self::Posterize((4 - (level * 4.0) as u32).max(1)),
            5 => Self::Solarize(256 - (level * 256.0) as u32),
            6 => Self::SolarizeAdd((level * 110.0) as u32),
            7 => Self::Colour(blend),
            8 => Self::Contrast(blend),
            9 => Self::Brightness(blend),
            10 => Self::Sharpness(blend),
            11 => Self::ShearX(sign * level * 0.3),
            12 => Self::ShearY(sign * level * 0.3),
            13 => Self::TranslateX(sign * level * 0.45),
            _ => Self::TranslateY(sign * level * 0.45),
        }
    }

    /// For square frames of `side` pixels.
    pub(super) fn prepare(self, side: usize) -> Prepared {
        let shift = |part: f64| part * side as f64;
        let affine = match self {
            Self::Rotate(radians) => Affine::rotation(radians, side as f64 / 2.0),
            Self::ShearX(part) => Affine([1.0, part, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(part) => Affine([1.0, 0.0, 0.0, part, 1.0, 0.0]),
            Self::TranslateX(part) => Affine([1.0, 0.0, shift(part), 0.0, 1.0, 0.0]),
            Self::TranslateY(part) => Affine([1.0, 0.0, 0.0, 0.0, 1.0, shift(part)]),
            tone => return Prepared::Tone(tone),
        };
        Prepared::Geometry(Sampler::new(&affine, side))
    }
}

impl Prepared {
    pub(super) fn apply(&self, frame: Frame) {
        let operation = match self {
            Self::Geometry(sampler) => return sampler.apply(frame),
            Self::Tone(operation) => *operation,
        };
        match operation {
            Operation::AutoContrast => tone::by_channel(frame.pixels, tone::auto_contrast),
            Operation::Equalize => tone::by_channel(frame.pixels, tone::equalize),
            Operation::Invert => tone::by_value(frame.pixels, |value| 255 - value),
            Operation::Posterize(bits) => tone::by_value(frame.pixels, |value| value & !(0xff_u8 >> bits)),
            Operation::Solarize(from) => {
                tone::by_value(frame.pixels, |value| if u32::from(value) < from { value } else { 255 - value });
            }
            Operation::SolarizeAdd(add) => {
                let bright = |value: u8| (u32::from(value) + add).min(255) as u8;
                tone::by_value(frame.pixels, |value| if value < 128 { bright(value) } else { value });
            }
            Operation::Colour(factor) => tone::colour(frame.pixels, factor),
            Operation::Contrast(factor) => tone::contrast(frame.pixels, factor),
            Operation::Brightness(factor) => tone::by_value(frame.pixels, |value| tone::blend(0, value, factor)),
            Operation::Sharpness(factor) => tone::sharpness(frame, factor),
            // `prepare` makes samplers of the others.
            _ => unreachable!("{operation:?} is geometry"),
        }
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
