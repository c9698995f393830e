//! Groups, with ranks in threads and in processes. One binary, because each that links libtorch takes its time.

mod processes;
mod threads;
