//! What a worker can be asked for on the command line, one file each.

pub mod eval;
pub mod run;
