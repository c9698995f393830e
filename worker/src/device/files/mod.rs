//! Weights that come from other programs, and go to them.

pub mod export;
pub mod import;
