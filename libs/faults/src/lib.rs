//! Bad weather on request: a proxy that does to a store's clients what networks and servers do, and a small S3 server to
//! put behind it. It proves; it never ships.

mod body;
mod forecast;
mod proxy;
mod s3;

pub use forecast::{Fault, Fired, Forecast};
pub use proxy::Proxy;
pub use s3::S3;
