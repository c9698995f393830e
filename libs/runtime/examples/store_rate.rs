//! How fast reads are through the guard and without it, from a store in memory, near and 20 ms away.
//!
//! `cargo run -p vared-runtime --example store_rate`

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use runtime::store::guard::{Guarded, Policy};

/// As a clip of a re-encoded video.
const LENGTH_BYTES: usize = 200_000;
const OBJECTS: usize = 64;
const READS: usize = 20_000;
const AT_ONCE: usize = 256;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("{READS} reads of {LENGTH_BYTES} bytes, {AT_ONCE} at once, clips a second, best of {ROUNDS}");
    for latency in [Duration::ZERO, Duration::from_millis(20)] {
        let bare = throttled(latency).await?;
        let guarded = Arc::new(Guarded::new(Arc::clone(&bare), Policy::REMOTE));
        let (mut without, mut with) = (0.0f64, 0.0f64);
        // Turn by turn, so that other work on the machine strikes both.
        for _ in 0..ROUNDS {
            without = without.max(rate(bare.as_ref()).await?);
            with = with.max(rate(guarded.as_ref()).await?);
        }
        println!("{latency:>5.0?} away: {without:.0} without, {with:.0} with the guard: {:.3}", with / without);
        println!("      {}", guarded.figures());
    }
    Ok(())
}

/// A store in memory that answers after `latency`.
async fn throttled(latency: Duration) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let memory = InMemory::new();
    for number in 0..OBJECTS {
        memory.put(&Path::from(number.to_string()), vec![7; LENGTH_BYTES].into()).await?;
    }
    let throttle = ThrottleConfig { wait_get_per_call: latency, ..ThrottleConfig::default() };
    Ok(Arc::new(ThrottledStore::new(memory, throttle)))
}

async fn rate(store: &dyn ObjectStore) -> anyhow::Result<f64> {
    let start = Instant::now();
    let read = |number: usize| async move {
        let path = Path::from((number % OBJECTS).to_string());
        store.get_range(&path, 0..LENGTH_BYTES as u64).await
    };
    stream::iter(0..READS).map(read).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
    Ok(READS as f64 / start.elapsed().as_secs_f64())
}
