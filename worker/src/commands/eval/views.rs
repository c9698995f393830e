//! Several views of every video, each video decoded once.

use std::io::IsTerminal;

use runtime::OwnedThread;
use runtime::progress::Progress;

use super::Found;
use super::accuracy::Seen;
use super::bench::{Bench, WARM_UP};
use super::clips::LeftOut;
use super::figures::{Speed, Speeds};
use super::subject::Evaluated;
use crate::commands::loader::{Fault, Looker};
use crate::commands::report::{Extremes, REDUNDANCY_CLIPS};
use crate::compute::Batch;
use crate::device::measure::Look;

/// Looks at the videos of these numbers, one after the other; a video that can't be shown is left out.
pub async fn all(
    evaluated: &Evaluated,
    (views, numbers): (u32, Vec<u64>),
    (url, bench): (&str, &OwnedThread<Bench>),
) -> anyhow::Result<Found> {
    let looker = Looker::new(url)?;
    let mut progress = std::io::stderr().is_terminal().then(|| Progress::new("evaluates videos", numbers.len() as u64));
    let sample_every = numbers.len().div_ceil(REDUNDANCY_CLIPS).max(1);
    let (mut gathered, mut left_out) = (Gathered { sample_every, ..Gathered::default() }, Vec::new());
    for number in numbers {
        match gathered.video(&looker, (evaluated, views, number), bench).await {
            Ok(()) => {}
            Err(Fault::Video { key, reason }) => left_out.push(LeftOut { key, reason }),
            Err(Fault::Loader(error)) => return Err(error),
        }
        if let Some(progress) = &mut progress {
            progress.add(1);
        }
    }
    let [dynamic, baseline] = gathered.seconds.map(|seconds| speed(&seconds));
    let has_baseline = !gathered.baseline.is_empty();
    Ok(Found {
        dynamic: gathered.dynamic,
        baseline: has_baseline.then_some(gathered.baseline),
        left_out,
        speeds: Speeds { dynamic, backbone: has_baseline.then_some(baseline) },
        controls: None,
        extremes: gathered.extremes,
        samples: gathered.samples,
    })
}

/// What was seen so far.
#[derive(Default)]
struct Gathered {
    dynamic: Vec<Seen>,
    baseline: Vec<Seen>,
    /// Of every clip, by either network.
    seconds: [Vec<f64>; 2],
    extremes: Extremes,
    /// A clip each of some videos.
    samples: Vec<Batch>,
    /// A sample is taken of one video in so many.
    sample_every: usize,
}

impl Gathered {
    /// One more video, as a whole or not at all.
    async fn video(
        &mut self,
        looker: &Looker,
        (evaluated, views, number): (&Evaluated, u32, u64),
        bench: &OwnedThread<Bench>,
    ) -> Result<(), Fault> {
        let mut video = looker.clip(evaluated.look(views, number)).await?;
        let mut looks: [Vec<(Look, f64)>; 2] = Default::default();
        let mut first = None;
        while let Some(shown) = video.next().await? {
            first = first.or_else(|| shown.crops.first().cloned());
            let both = bench.call(move |bench| bench.both(&shown.crops)).await;
            let both = both.map_err(|error| Fault::Loader(error.into()))?;
            looks[0].extend(both.dynamic);
            looks[1].extend(both.baseline);
        }
        let label = video.facts.label as usize;
        for ((seen, seconds), looks) in
            [&mut self.dynamic, &mut self.baseline].into_iter().zip(&mut self.seconds).zip(looks)
        {
            if !looks.is_empty() {
                let (looks, took): (Vec<Look>, Vec<f64>) = looks.into_iter().unzip();
                seconds.extend(took);
                seen.push(Seen { key: video.facts.key.clone(), label, looks });
            }
        }
        if let (Some(seen), Some(clip)) = (self.dynamic.last(), first) {
            self.extremes.offer(&seen.entry(&clip));
            if (self.dynamic.len() - 1).is_multiple_of(self.sample_every) {
                self.samples.push(clip);
            }
        }
        Ok(())
    }
}

/// Clips a second, the first ones apart where there are enough others.
fn speed(seconds: &[f64]) -> Speed {
    let counted = if seconds.len() > 2 * WARM_UP { &seconds[WARM_UP..] } else { seconds };
    Speed { clips_per_second: counted.len() as f64 / counted.iter().sum::<f64>().max(f64::MIN_POSITIVE) }
}
