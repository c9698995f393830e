//! What follows a norm.

use tch::Tensor;

/// A function of each value by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The value itself.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`.
    Swish,
}

impl Activation {
    /// Applies it in place, and gives the tensor back.
    pub fn apply_(self, mut x: Tensor) -> Tensor {
        match self {
            Self::None => x,
            Self::Relu => x.relu_(),
            Self::Swish => x.silu_(),
        }
    }
}
