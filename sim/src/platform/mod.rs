//! What a cluster runs on: processes, a network between them, an object store.

pub mod network;
pub mod process;
pub mod store;
