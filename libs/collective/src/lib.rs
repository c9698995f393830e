//! Collectives of a group of workers: c10d, the engine inside libtorch, from Rust.
//!
//! [`Group::gloo`] forms a group of `world` ranks that computes on the CPU, [`Group::nccl`] one whose ranks have a GPU each.
//! The ranks find each other through a [`Store`], a small blocking key-value interface that the caller implements (a worker
//! puts the coordinator's Rendezvous RPCs behind it; [`MemoryStore`] serves ranks inside one process), so no rank hosts
//! anything that the others need. A Gloo group of one needs neither store nor network: its operations do nothing.
//!
//! A group takes tensors of any device: those of another device than its own travel there and back.
//!
//! Every wait is bounded by [`Member::timeout`]. A peer that dies is seen as soon as its connection breaks; one that is
//! silent, when the timeout ends. [`Group::aborter`] gives what ends the work from another thread. After an error the group
//! is of no more use: drop it and form another one, under other store keys.
//!
//! # NCCL
//!
//! [`Group::nccl`] loads `libvared_nccl.so`, which `cargo xtask cuda` builds, and libtorch's CUDA half; crate `cuda` says where
//! it looks. An object of another version of this program is refused, and so is an NCCL of another version than the object
//! was compiled with.
//!
//! An operation returns when it is done on the GPU, or fails: c10d waits in the calling thread, looking every millisecond. It
//! starts no thread that watches, so nothing of it ends the process; [`nccl_trace`] gives what its flight recorder holds.
//! Forming a group and connecting to a peer for the first time are bounded in whole seconds, by the timeout of the
//! process' first NCCL group. A member that leaves a group gives its last bytes up to a second to be on their way.
//!
//! c10d and NCCL read their settings from the environment. The first NCCL group of a process sets these:
//!
//! | variable | value | why |
//! |---|---|---|
//! | `TORCH_NCCL_BLOCKING_WAIT` | 1 | wait in the calling thread; no watchdog |
//! | `TORCH_NCCL_ASYNC_ERROR_HANDLING` | 0 | never end the process |
//! | `TORCH_NCCL_ENABLE_MONITORING`, `TORCH_NCCL_DUMP_ON_TIMEOUT`, `TORCH_NCCL_DESYNC_DEBUG` | 0 | the same |
//! | `TORCH_NCCL_CUDA_EVENT_CACHE` | 1 | what the flight recorder points at stays |
//! | `TORCH_NCCL_NONBLOCKING_TIMEOUT` | [`Member::timeout`] in seconds | bound of connecting; unless set |
//! | `TORCH_FR_BUFFER_SIZE` | 2000 | operations that the flight recorder holds; unless set |
//! | `NCCL_SOCKET_IFNAME` | an [`Address::Interface`] | unless set; with an [`Address::Host`], NCCL chooses |
//!
//! # What is where
//!
//! `bridge/bridge.h` is the C ABI and says who owns what. `bridge/gloo.cc`, linked into the program, implements it for Gloo, and
//! the operations for both; `bridge/nccl.cc` is the shared object, one constructor that gives the same `vared_group`.
//! `bridge/stand_in` declares the few gloo types that libtorch's headers name and no package ships. `ffi.rs` and `ffi/nccl.rs` are
//! the Rust side. `examples/nccl.rs` tries on one GPU what one can show.
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
