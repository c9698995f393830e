//! `worker eval`: a network on the held-out clips of a data set, beside its baseline and two controls.
//!
//! All figures come from skipping inference: what a policy leaves out is not computed, and the time is measured. Every
//! video counts once, whatever it is looked at; nothing is padded.

mod accuracy;
mod bench;
mod clips;
mod controls;
mod figures;
mod subject;
mod summary;
mod views;

use std::sync::Arc;

use anyhow::{Context, bail};
use runtime::OwnedThread;
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use runtime::telemetry;

use super::loader::OwnLoader;
use super::network;
use super::report::{Extremes, Report};
use crate::compute::Batch;
use crate::config::{EvalConfig, PolicyChoice};
use crate::device;
use crate::device::measure::Subject;
use crate::device::network::Weights;
use crate::itinerary::{Ask, Split};
use accuracy::check_each_once;
use bench::Bench;
use clips::{ClipReader, LeftOut, spread};
use figures::{Controls, Speeds};
use subject::Evaluated;

pub use accuracy::Seen;
pub use summary::Summary;

/// Training clips whose gates tell the fixed policies.
const TRAIN_CLIPS: u64 = 512;

/// What an evaluation found, before it is summed up.
struct Found {
    dynamic: Vec<Seen>,
    baseline: Option<Vec<Seen>>,
    left_out: Vec<LeftOut>,
    speeds: Speeds,
    controls: Option<Controls>,
    extremes: Extremes,
    /// One clip each of some videos.
    samples: Vec<Batch>,
}

/// Evaluates, prints the table, writes the JSON.
pub async fn run(config: EvalConfig, shutdown: Shutdown) -> anyhow::Result<Code> {
    tokio::select! {
        done = evaluate(config) => done,
        () = shutdown.soon.cancelled() => bail!("the evaluation was interrupted; nothing is written"),
    }
}

async fn evaluate(config: EvalConfig) -> anyhow::Result<Code> {
    let mut evaluated = Evaluated::load(&config).await?;
    let bench = start(&config, &evaluated).await?;
    let own = match &config.loader {
        None => Some(OwnLoader::start(Some(evaluated.welcome())).await?),
        Some(_) => None,
    };
    if let Some(opened) = own.as_ref().and_then(|own| own.data_set.clone()) {
        evaluated.opened(opened).code(Code::Misconfigured)?;
    }
    let url = config.loader.as_deref().or(own.as_ref().map(|own| own.address.as_str())).unwrap_or_default();
    let asks = spread(Split::Val, config.clips.unwrap_or(u64::MAX), evaluated.data_set()?.val_clips);
    let asked = asks.iter().map(|ask| u64::from(ask.count)).sum();
    let mut found = match config.sampling.views {
        None => single(&evaluated, &asks, (url, &bench)).await?,
        Some(views) => {
            let numbers = asks.iter().flat_map(|ask| ask.first..ask.first + u64::from(ask.count)).collect();
            views::all(&evaluated, (views, numbers), (url, &bench)).await?
        }
    };
    drop(own);
    if let ([], [first, ..]) = (found.dynamic.as_slice(), found.left_out.as_slice()) {
        bail!(
            "none of the held-out clips of {} can be read; {:?}: {}",
            evaluated.weights.origin,
            first.key,
            first.reason
        );
    }
    let classes = &evaluated.data_set()?.classes;
    check_each_once(&found.dynamic, (found.left_out.len(), asked, classes.len()))?;
    let layers = bench.call(|bench| bench.layers()).await?;
    let summary = Summary::of(evaluated.identity()?, &found, (&layers, classes));
    telemetry::print(summary.table());
    if let Some(path) = &config.json {
        let text = serde_json::to_string_pretty(&summary).context("can't write the summary as JSON")?;
        network::write(path, (text + "\n").as_bytes())?;
        telemetry::print(format_args!("written to {}", path.display()));
    }
    if let Some(path) = &config.report {
        let samples = std::mem::take(&mut found.samples);
        let redundancy = bench.call(move |bench| bench.dynamic.redundancy(&samples)).await?;
        let (seen, extremes) = (found.dynamic.as_slice(), &found.extremes);
        let report = Report { summary: &summary, layers: &layers, seen, extremes, redundancy: &redundancy };
        network::write(path, report.html()?.as_bytes())?;
        telemetry::print(format_args!("the report is {}", path.display()));
    }
    Ok(Code::Done)
}

async fn start(config: &EvalConfig, evaluated: &Evaluated) -> anyhow::Result<Arc<OwnedThread<Bench>>> {
    let baseline = match &config.baseline {
        Some(choice) => Some(network::load(choice).await?),
        None => None,
    };
    let (choice, crop, weights) = (config.device, evaluated.crop(), evaluated.weights.clone());
    let build = move || {
        let device = device::find(choice)?;
        let load = |weights: &Weights| Subject::load(weights, (crop, &PolicyChoice::Skip), device);
        let dynamic = load(&weights)?;
        let baseline = baseline.as_ref().map(load).transpose()?;
        Ok(Bench { dynamic, baseline })
    };
    Ok(Arc::new(OwnedThread::spawn("device", 2, build).await.code(Code::Misconfigured)?))
}

/// One clip a video, as the runs' own validation looks at it; with controls and repeated timing.
async fn single(
    evaluated: &Evaluated,
    asks: &[Ask],
    (url, bench): (&str, &OwnedThread<Bench>),
) -> anyhow::Result<Found> {
    let mut reader = ClipReader::open(url, evaluated.open()).await?;
    let val = reader.read(asks).await?;
    // The first positions of the plan: a random draw without repeats.
    let first = if evaluated.has_train_clips() { TRAIN_CLIPS.min(evaluated.data_set()?.train_clips) } else { 0 };
    let train = reader.read(&spread(Split::Train, first, first)).await?.batches;
    tracing::info!("evaluates on {} held-out clips", val.keys.len());
    Ok(bench.call(move |bench| bench.single(val, &train)).await?)
}
