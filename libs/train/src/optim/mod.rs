//! How parameters move: where they lie, how fast, and by what rule.

mod flat;
mod schedule;
mod sgd;

pub(crate) use flat::{Entry, FlatParams};
pub use schedule::{Rates, Schedule};
pub(crate) use sgd::Sgd;
