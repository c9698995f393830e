//! Layers that never choose: what stands between convolutions and costs next to nothing.

mod activation;
mod dropout;
mod pool;
mod squeeze_excite;

pub use activation::Activation;
pub use dropout::Dropout;
pub use pool::Pool;
pub use squeeze_excite::{SqueezeExcite, SqueezeExciteConfig};
