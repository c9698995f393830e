//! The proxy as a process, to be put in front of a real store.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use faults::{Fault, Forecast, Proxy};
use hyper::http::uri::Authority;

/// An HTTP proxy that strikes a share of the requests with faults of networks and servers.
///
/// Give clients its address in place of the store's: AWS_ENDPOINT=http://127.0.0.1:9000. What struck, and how often, is told
/// when it ends (Ctrl-C), so that a test can see that its fault happened.
#[derive(Debug, Parser)]
#[command(name = "faultproxy")]
struct Args {
    /// Address to listen on; port 0 is any free one, and is told
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// HOST:PORT of the store, which speaks plain HTTP
    #[arg(long)]
    to: Authority,
    /// Share of the requests to strike, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    share: f64,
    /// Faults to choose from, separated by commas
    #[arg(long, value_delimiter = ',', default_values = ["internal-error", "slow-down", "truncate", "reset"])]
    faults: Vec<Fault>,
    /// Milliseconds that every request waits first
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// The same seed strikes the same requests, where they come in the same order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut forecast = Forecast::fair(args.seed);
    (forecast.share, forecast.kinds) = (args.share, args.faults);
    forecast.latency = Duration::from_millis(args.latency_ms);
    let proxy = Proxy::start(args.listen, args.to, forecast).await?;
    println!("listening on {}", proxy.address());
    tokio::signal::ctrl_c().await?;
    println!("{} requests; struck: {:?}", proxy.forecast().requests(), proxy.forecast().fired());
    Ok(())
}
