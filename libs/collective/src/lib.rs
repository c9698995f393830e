//! Collectives of a group of workers: c10d, the engine inside libtorch, from Rust.
//!
//! [`Group::gloo`] forms a group of `world` ranks on CPU tensors. The ranks find each other through a [`Store`], a small
//! blocking key-value interface that the caller implements (a worker puts the coordinator's Rendezvous RPCs behind it;
//! [`MemoryStore`] serves ranks inside one process), so no rank hosts anything that the others need.
//! A group of one needs neither store nor network: its operations do nothing.
//!
//! Every wait is bounded by [`Member::timeout`]. A peer that dies is seen as soon as its connection breaks; one that is
//! silent, when the timeout ends. After an error the group is of no more use: drop it and form another one, under other
//! store keys.
//!
//! # What is where
//!
//! `bridge/bridge.h` is the C ABI and says who owns what; `bridge/gloo.cc` implements it; `bridge/stand_in` declares the
//! few gloo types that libtorch's headers name and no package ships. `ffi.rs` is the Rust side, and the only unsafe code of the
//! project. NCCL's half is to be a shared object of its own with one more constructor (`vared_nccl_new`), loaded where a
//! GPU is there; what it returns is the same `vared_group`, so [`Group`] and the operations stay as they are.
//!
//! This crate decides nothing: who is in the group, which rank, and what to do after a failure come from the caller.

mod error;
mod ffi;
mod group;
mod store;

pub use error::Error;
pub use group::{Aborter, Address, Group, Member};
pub use store::{MemoryStore, Store, StoreError};

/// What c10d's flight recorder holds of the last 2000 operations of this process' NCCL groups, as JSON: which, on what
/// shapes, begun or ended. For the logs of a run, after a failed operation. Nothing, if no NCCL group was asked for.
///
/// # Errors
/// c10d's text, if CUDA no longer answers.
pub fn nccl_trace() -> Option<Result<String, String>> {
    Some(ffi::Nccl::loaded()?.trace())
}

/// NCCL's version as NCCL writes it (2.28.9 is 22809): that of the headers of our shared object, and that of the library
/// in use. Nothing, if no NCCL group was asked for.
pub fn nccl_versions() -> Option<(i32, i32)> {
    Some(ffi::Nccl::loaded()?.versions)
}
