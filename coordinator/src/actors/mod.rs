//! Who executes what `cluster` decides.

#[cfg(test)]
mod ear;
pub mod keeper;
pub mod launcher;
pub mod pruner;
pub mod rendezvous;
pub mod root;
pub mod run;
pub mod session;
