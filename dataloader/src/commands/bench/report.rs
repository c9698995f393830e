//! From what was measured to what it means: which stage holds the others up, and what a target takes.

use serde::Serialize;

/// Clips a second in some rounds of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// The middle one.
    pub median: f64,
    /// The slowest round.
    pub low: f64,
    /// The fastest round.
    pub high: f64,
}

impl Rate {
    /// Of the rounds' rates; none without rounds.
    pub fn of(mut rounds: Vec<f64>) -> Option<Self> {
        rounds.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*rounds.first()?, *rounds.last()?);
        let half = rounds.len() / 2;
        let median = if rounds.len() % 2 == 1 { rounds[half] } else { rounds[half - 1].midpoint(rounds[half]) };
        Some(Self { median, low, high })
    }

    /// How far the rounds lie apart, as a part of the median.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / self.median
    }
}

/// What was measured, clips a second: `fetch` and `together` of this machine, the others of one core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stages {
    /// The store, as many requests at a time as the service has.
    pub fetch: Rate,
    /// Frames out of a file, in a decoder process.
    pub decode: Rate,
    /// The view out of its frames.
    pub transform: Rate,
    /// Both in one decoder process, as the service does it.
    pub decode_transform: Rate,
    /// Clips side by side, with their checksum.
    pub batch: Rate,
    /// All of it at once: the service's own stages.
    pub together: Rate,
}

/// What a clip costs beside time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// Requests to the store.
    pub requests: f64,
    /// Bytes that are read from it.
    pub read_bytes: f64,
    /// Time on a core that reading takes, seconds.
    pub fetch_core_seconds: f64,
    /// Bytes that a worker gets.
    pub sent_bytes: f64,
}

/// The stage that holds the others up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// The store, or the way to it.
    Fetch,
    /// The cores, most of all with decoding.
    Decode,
    /// The cores, most of all with augmentation.
    Transform,
    /// The cores, most of all with copying.
    Batch,
}

/// What so many clips a second take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Needs {
    /// The target.
    pub clips_per_second: f64,
    /// Cores, over all loaders.
    pub cores: f64,
    /// Loaders, so that enough requests are on their way to the store at a time.
    pub loaders: f64,
    /// Requests that the store must answer, a second, where nothing is cached.
    pub requests_per_second: f64,
    /// Bytes that it must send, a second.
    pub read_bytes_per_second: f64,
    /// Bytes that workers get, a second.
    pub sent_bytes_per_second: f64,
}

/// Seconds of one core that a clip takes.
pub fn core_seconds(stages: &Stages, costs: &Costs) -> f64 {
    costs.fetch_core_seconds + 1.0 / stages.decode_transform.median + 1.0 / stages.batch.median
}

/// The stage that holds the others up, with so many cores.
pub fn bottleneck(stages: &Stages, costs: &Costs, cores: usize) -> Bottleneck {
    if stages.fetch.median < cores as f64 / core_seconds(stages, costs) {
        return Bottleneck::Fetch;
    }
    let slowest = [
        (Bottleneck::Decode, stages.decode.median),
        (Bottleneck::Transform, stages.transform.median),
        (Bottleneck::Batch, stages.batch.median),
    ];
    slowest.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(Bottleneck::Decode, |(stage, _)| stage)
}

/// What a target takes.
pub fn needs(stages: &Stages, costs: &Costs, clips_per_second: f64) -> Needs {
    Needs {
        clips_per_second,
        cores: clips_per_second * core_seconds(stages, costs),
        loaders: (clips_per_second / stages.fetch.median).ceil(),
        requests_per_second: clips_per_second * costs.requests,
        read_bytes_per_second: clips_per_second * costs.read_bytes,
        sent_bytes_per_second: clips_per_second * costs.sent_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(median: f64) -> Rate {
        Rate { median, low: median * 0.9, high: median * 1.1 }
    }

    fn stages(fetch: f64, [decode, transform, decode_transform, batch]: [f64; 4]) -> Stages {
        let [decode, transform, decode_transform, batch] = [decode, transform, decode_transform, batch].map(rate);
        Stages { fetch: rate(fetch), decode, transform, decode_transform, batch, together: rate(1.0) }
    }

    const COSTS: Costs = Costs { requests: 2.0, read_bytes: 1e5, fetch_core_seconds: 0.002, sent_bytes: 6e5 };

    #[test]
    fn the_middle_round_counts_and_the_ends_are_told() {
        assert_eq!(Rate::of(vec![9.0, 5.0, 6.0]), Some(Rate { median: 6.0, low: 5.0, high: 9.0 }));
        assert_eq!(Rate::of(vec![4.0, 2.0]).map(|rate| (rate.median, rate.spread())), Some((3.0, 2.0 / 3.0)));
        assert_eq!(Rate::of(Vec::new()), None);
    }

    #[test]
    fn a_target_takes_what_its_clips_take() {
        // 2 ms to read, 10 ms to decode and transform, 1 ms to copy.
        let needs = needs(&stages(400.0, [120.0, 900.0, 100.0, 1000.0]), &COSTS, 1000.0);
        assert!((needs.cores - 13.0).abs() < 1e-9, "{needs:?}");
        assert_eq!((needs.loaders, needs.requests_per_second), (3.0, 2000.0));
        assert_eq!((needs.read_bytes_per_second, needs.sent_bytes_per_second), (1e8, 6e8));
    }

    #[test]
    fn the_store_is_the_bottleneck_only_where_the_cores_would_be_faster() {
        let slow_decode = stages(100.0, [120.0, 900.0, 100.0, 1000.0]);
        assert_eq!(bottleneck(&slow_decode, &COSTS, 1), Bottleneck::Decode, "one core makes 77 clips a second");
        assert_eq!(bottleneck(&slow_decode, &COSTS, 2), Bottleneck::Fetch, "two make 154, the store sends 100");
        let augmented = stages(1e4, [500.0, 120.0, 100.0, 1000.0]);
        assert_eq!(bottleneck(&augmented, &COSTS, 2), Bottleneck::Transform);
        assert_eq!(bottleneck(&stages(1e4, [500.0, 500.0, 400.0, 90.0]), &COSTS, 2), Bottleneck::Batch);
    }
}
