//! Frames that are moved: for each pixel of the result, the place that it comes from.

use super::operation::Frame;

/// `[a, b, c, d, e, f]`: the centre of pixel (x, y) comes from (ax + by + c, dx + ey + f).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine(pub(super) [f64; 6]);

impl Affine {
    /// Counter-clockwise about (`centre`, `centre`). By functions that give the same bits on every machine.
    pub(super) fn rotation(radians: f64, centre: f64) -> Self {
        let (cosine, sine) = (libm::cos(radians), libm::sin(radians));
        let (left, up) = (centre - cosine * centre + sine * centre, centre - sine * centre - cosine * centre);
        Self([cosine, -sine, left, sine, cosine, up])
    }
}

/// The places that all pixels of a square frame come from.
pub(super) struct Sampler(Vec<Option<Place>>);

/// Between four pixels: `weight` parts of 1 towards the next.
#[derive(Debug, Clone, Copy)]
struct Place {
    column: Between,
    row: Between,
}

#[derive(Debug, Clone, Copy)]
struct Between {
    at: usize,
    next: usize,
    weight: f64,
}

impl Between {
    /// Around a coordinate of pixel edges; nothing outside of the frame.
    fn new(edge: f64, side: usize) -> Option<Self> {
        if !(0.0..side as f64).contains(&edge) {
            return None;
        }
        let centre = edge - 0.5;
        let floor = centre.floor();
        let inside = |at: f64| (at.max(0.0) as usize).min(side - 1);
        Some(Self { at: inside(floor), next: inside(floor + 1.0), weight: centre - floor })
    }
}

impl Sampler {
    pub(super) fn new(Affine([a, b, c, d, e, f]): &Affine, side: usize) -> Self {
        let place = |at: usize| {
            let (x, y) = ((at % side) as f64 + 0.5, (at / side) as f64 + 0.5);
            let column = Between::new(a * x + b * y + c, side)?;
            Some(Place { column, row: Between::new(d * x + e * y + f, side)? })
        };
        Self((0..side * side).map(place).collect())
    }

    /// Bilinear; the mean colour where nothing comes from.
    pub(super) fn apply(&self, frame: Frame) {
        let Frame { pixels, side, mean } = frame;
        let source = pixels.to_vec();
        for (place, pixel) in self.0.iter().zip(pixels.chunks_exact_mut(3)) {
            let Some(Place { column, row }) = place else {
                pixel.copy_from_slice(&mean);
                continue;
            };
            for (channel, value) in pixel.iter_mut().enumerate() {
                let of = |y: usize, x: usize| f64::from(source[(y * side + x) * 3 + channel]);
                let along = |y: usize| between(of(y, column.at), of(y, column.next), column.weight);
                *value = between(along(row.at), along(row.next), row.weight) as u8;
            }
        }
    }
}

fn between(from: f64, to: f64, weight: f64) -> f64 {
    from + (to - from) * weight
}
