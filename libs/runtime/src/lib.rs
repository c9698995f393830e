//! How a process of this system lives: what it opens, supervises, waits for and how it ends.
//!
//! Nothing here knows what a run is. It refuses to hold a gRPC service, a tensor or a decision about the cluster.

pub mod ask;
pub mod exit;
pub mod health;
pub mod owned_thread;
pub mod progress;
pub mod retry;
pub mod shutdown;
pub mod store;
pub mod supervise;
pub mod telemetry;

pub use owned_thread::OwnedThread;
