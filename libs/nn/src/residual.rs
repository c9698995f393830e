//! Where a residual branch meets the way around it.

use tch::Tensor;

use crate::macs::{FeatureShape, LayerCost};
use crate::{ConvUnit, Pass};

/// The end of a residual block: `max(last(y) + shortcut(x), 0)`.
#[derive(Debug)]
pub struct Residual {
    /// The branch's last unit; it has no activation of its own.
    pub last: ConvUnit,
    /// What the block's input goes through on its way around; nothing where branch and input have one shape.
    pub shortcut: Option<ConvUnit>,
}

impl Residual {
    /// # Shape
    /// `y`, what the branch's last unit reads, and `x`, what the block has read, are `[n, c, t, h, w]` of their own; the
    /// result has the last unit's shape.
    ///
    /// # Panics
    /// If the inputs do not have these shapes.
    pub fn forward_t(&self, y_ncthw: &Tensor, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let around = self.around(x_ncthw, pass);
        self.last.forward_onto(y_ncthw, &around, pass)
    }

    /// `max(last(before(y)) + shortcut(x), 0)`, as fast as [`ConvUnit::forward_into`].
    ///
    /// # Shape
    /// As [`Residual::forward_t`], but for `y`: what `before` reads.
    ///
    /// # Panics
    /// As [`Residual::forward_t`].
    pub fn forward_from(&self, before: &ConvUnit, [y_ncthw, x_ncthw]: [&Tensor; 2], pass: &mut Pass) -> Tensor {
        let around = self.around(x_ncthw, pass);
        before.forward_into((&self.last, Some(&around)), y_ncthw, pass)
    }

    fn around(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        self.shortcut.as_ref().map_or_else(|| x_ncthw.shallow_clone(), |unit| unit.forward_t(x_ncthw, pass))
    }

    /// Adds the cost of both to `costs` and gives the shape that goes on; `branch` is that of `y`, `input` that of `x`.
    pub fn trace(&self, branch: FeatureShape, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let output = self.last.trace(branch, costs);
        if let Some(unit) = &self.shortcut {
            unit.trace(input, costs);
        }
        output
    }
}
