//! What a worker can be asked for on the command line, one file each.

pub mod eval;
pub mod export;
pub mod forward;
pub mod import;
pub mod loader;
pub mod network;
pub mod predict;
pub mod profile;
pub mod report;
pub mod run;
