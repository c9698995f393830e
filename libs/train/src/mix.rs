//! Mixup and cutmix: each clip of a lane is mixed with the one that stands as far from the lane's other end.
//!
//! One share is drawn for a whole lane; clip `i` of `n` meets clip `n − 1 − i`. What is drawn follows from a seed alone, so a
//! step that is done again mixes the same.

use models::Stream;
use tch::Tensor;

use crate::config::MixConfig;

/// What a lane's clips are told to be.
#[derive(Debug)]
pub(crate) struct Targets {
    /// Their own classes.
    pub(crate) labels_n: Tensor,
    /// The classes of the clips that were mixed in, and the share that is left of the clips themselves.
    pub(crate) mixed: Option<(Tensor, f64)>,
}

impl Targets {
    /// Clips that are what they are.
    pub(crate) fn plain(labels_n: Tensor) -> Self {
        Self { labels_n, mixed: None }
    }

    /// The class that most of each clip is of; that of the clip itself if both halves are equal.
    pub(crate) fn dominant_n(&self) -> &Tensor {
        match &self.mixed {
            Some((others_n, share)) if *share < 0.5 => others_n,
            _ => &self.labels_n,
        }
    }
}

/// How one lane is mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mix {
    Nothing,
    /// Every pixel: this share of the clip, the rest of the other.
    Blend(f64),
    /// This box of every frame is the other's.
    Paste(Area),
}

/// Rows and columns, from and up to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    rows: [i64; 2],
    columns: [i64; 2],
}

impl MixConfig {
    /// Mixes clips `[n, 3, t, h, w]` in place, by what `stream` draws.
    pub(crate) fn apply(&self, x_ncthw: &Tensor, labels_n: Tensor, stream: &mut Stream) -> Targets {
        let size = x_ncthw.size();
        let share = match self.draw(stream, (size[3], size[4])) {
            Mix::Nothing => return Targets::plain(labels_n),
            Mix::Blend(share) => {
                let other_ncthw = x_ncthw.flip([0]) * (1.0 - share);
                let _ = x_ncthw.shallow_clone().g_mul_scalar_(share).g_add_(&other_ncthw);
                share
            }
            Mix::Paste(place) => {
                let other_ncthw = place.of(&x_ncthw.flip([0]));
                place.of(x_ncthw).copy_(&other_ncthw);
                1.0 - place.area() as f64 / (size[3] * size[4]) as f64
            }
        };
        let others_n = labels_n.flip([0]);
        Targets { labels_n, mixed: Some((others_n, share)) }
    }

    fn draw(&self, stream: &mut Stream, (height, width): (i64, i64)) -> Mix {
        let (mixes, pastes) = (stream.uniform() < self.probability, stream.uniform() < self.cutmix_share);
        let pastes = self.cutmix > 0.0 && (pastes || self.mixup == 0.0);
        let alpha = if pastes { self.cutmix } else { self.mixup };
        if !mixes || alpha == 0.0 {
            return Mix::Nothing;
        }
        let share = beta(alpha, stream);
        if !pastes {
            return Mix::Blend(share);
        }
        // A box of the clip's own shape around a uniform place, cut off at the edges.
        let side = (1.0 - share).sqrt();
        let mut span = |size: i64| {
            let (middle, length) = ((stream.uniform() * size as f64) as i64, (size as f64 * side) as i64);
            let from = (middle - length / 2).clamp(0, size);
            [from, (middle + length / 2).clamp(from, size)]
        };
        Mix::Paste(Area { rows: span(height), columns: span(width) })
    }
}

impl Area {
    fn of(&self, x_ncthw: &Tensor) -> Tensor {
        let ([top, bottom], [left, right]) = (self.rows, self.columns);
        x_ncthw.narrow(3, top, bottom - top).narrow(4, left, right - left)
    }

    fn area(&self) -> i64 {
        (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
    }
}

/// From Beta(α, α), by Jöhnk's method: points under a curve are drawn until one is inside.
fn beta(alpha: f64, stream: &mut Stream) -> f64 {
    loop {
        let [x, y] = [(); 2].map(|()| stream.uniform().powf(1.0 / alpha));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
#[path = "mix_tests.rs"]
mod tests;
