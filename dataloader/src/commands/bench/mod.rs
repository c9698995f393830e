//! `dataloader bench`: how many clips a second each stage makes, which one holds the others up, and what a target takes.

mod report;
mod rounds;

use std::sync::Arc;

use anyhow::{Context, anyhow};
use runtime::exit::{Code, WithCode};
use runtime::progress::Progress;
use runtime::shutdown::Shutdown;
use runtime::telemetry;
use serde::Serialize;

use self::report::{Bottleneck, Costs, Needs, Rate, Stages, bottleneck, core_seconds, needs};
use self::rounds::{Bench, Effort};
use crate::args::BenchArgs;
use crate::config::{cores, jobs};
use crate::data::DataSet;
use crate::data::dataset::OpenError;

/// Each stage is measured so often: a median needs some, and none should be short.
const ROUNDS: u32 = 5;
/// What is shown where no recipe is named.
const RECIPE: &str = include_str!("../../../../recipes/kinetics400-r2plus1d18.toml");
/// Rounds that lie further apart than this part of their median are told.
const WIDE_SPREAD: f64 = 0.3;

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'a> {
    url: &'a str,
    digest: String,
    clips: u64,
    bytes: u64,
    frames: u32,
    stride: u32,
    crop: u32,
    read: clips::config::Reading,
    decoders: usize,
    cores: usize,
    rounds: u32,
    stages: &'a Stages,
    a_clip: Costs,
    core_seconds_a_clip: f64,
    bottleneck: Bottleneck,
    needs: Needs,
    broken: u64,
}

/// Measures, then says what it means.
pub async fn main(args: BenchArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    let set = Arc::new(open(&args).await?);
    let clips = set.train.index.clips.len() as u64;
    let effort = Effort {
        slice: std::time::Duration::from_secs_f64(args.seconds / f64::from(ROUNDS)),
        clips: args.clips.unwrap_or(u64::MAX),
        decoders: jobs(args.jobs),
        settings: args.decoder.clone(),
    };
    let decoders = effort.decoders;
    let mut bench = Bench::start(Arc::clone(&set), effort).await?;
    let mut progress = Progress::new("measuring, round", ROUNDS.into());
    for _ in 0..ROUNDS {
        tokio::select! {
            round = bench.round() => round?,
            () = shutdown.soon.cancelled() => return Err(anyhow!("stopped")).code(Code::ComeBack),
        }
        progress.add(1);
    }
    drop(progress);
    let broken = bench.broken.clone();
    let (stages, costs) = bench.result()?;
    let target = args.target.unwrap_or(stages.together.median);
    let verdict = Verdict {
        url: &set.train.store.url,
        digest: set.train.index.digest(),
        clips,
        bytes: set.train.index.clips.iter().map(|clip| clip.length_bytes).sum(),
        frames: set.config.frames,
        stride: set.config.stride,
        crop: set.config.crop,
        read: set.config.read,
        decoders,
        cores: cores(),
        rounds: ROUNDS,
        stages: &stages,
        a_clip: costs,
        core_seconds_a_clip: core_seconds(&stages, &costs),
        bottleneck: bottleneck(&stages, &costs, decoders.min(cores())),
        needs: needs(&stages, &costs, target),
        broken: broken.0,
    };
    match args.json {
        true => telemetry::print(serde_json::to_string(&verdict).context("can't write the verdict as JSON")?),
        false => tell(&verdict, &broken.1),
    }
    Ok(Code::Done)
}

/// The clips at the URL, as training clips of the recipe.
async fn open(args: &BenchArgs) -> anyhow::Result<DataSet> {
    let text = match &args.recipe {
        None => RECIPE.to_owned(),
        Some(path) => {
            let read = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
            read.code(Code::Misconfigured)?
        }
    };
    // A recipe that is none is refused by whoever reads it next.
    let mut recipe: toml::Table = toml::from_str(&text).unwrap_or_default();
    if let Some(toml::Value::Table(data)) = recipe.get_mut("data") {
        for split in ["train", "val"] {
            data.insert(split.to_owned(), args.url.clone().into());
        }
        // They are other clips' classes.
        data.remove("mirrored");
    }
    let text = if recipe.is_empty() { text } else { recipe.to_string() };
    DataSet::open(&text, ".")
        .await
        .map_err(|error| match error {
            OpenError::Store { source, .. } => anyhow!("there is no data set at {}: {source}", args.url),
            error => error.into(),
        })
        .code(Code::Misconfigured)
}

fn tell(verdict: &Verdict, fault: &str) {
    let Verdict { stages, a_clip, needs, .. } = verdict;
    let print = |line: String| telemetry::print(line);
    let (megabytes, whole) = (verdict.bytes as f64 / 1e6, verdict.read == clips::config::Reading::Whole);
    print(format!("{}: {} clips, {megabytes:.1} MB", verdict.url, verdict.clips));
    let (frames, stride, crop) = (verdict.frames, verdict.stride, verdict.crop);
    let read = if whole { "whole files" } else { "only the groups that a view needs" };
    print(format!(
        "a clip is {frames} frames of {crop} x {crop} at stride {stride}; read are {read}; nothing is cached\n"
    ));
    print(format!("{:20}{:>10}   {:20}of", "stage", "clips/s", "rounds"));
    let reads = format!(
        "the store, {} at a time: {:.2} requests and {:.1} kB a clip",
        crate::actors::fetch::REQUESTS,
        a_clip.requests,
        a_clip.read_bytes / 1e3
    );
    let together = format!("the service's stages, {} decoders on {} cores", verdict.decoders, verdict.cores);
    for (name, rate, of) in [
        ("fetch", &stages.fetch, reads.as_str()),
        ("decode", &stages.decode, "one decoder"),
        ("transform", &stages.transform, "one core"),
        ("decode + transform", &stages.decode_transform, "one decoder, as the service does it"),
        ("batch", &stages.batch, "one core"),
        ("together", &stages.together, &together),
    ] {
        print(line(name, rate, of));
    }
    let name = match verdict.bottleneck {
        Bottleneck::Fetch => "fetch: the store, or the way to it, sends less than the cores could decode",
        Bottleneck::Decode => "decode: the cores, most of all with decoding",
        Bottleneck::Transform => "transform: the cores, most of all with augmentation",
        Bottleneck::Batch => "batch: the cores, most of all with copying",
    };
    print(format!("\nbottleneck: {name}"));
    print(format!(
        "{:.0} clips/s take {:.1} loader cores in {:.0} or more loaders; from the store {:.0} requests/s and {:.1} MB/s \
         where nothing is cached; to workers {:.1} MB/s",
        needs.clips_per_second,
        needs.cores,
        needs.loaders,
        needs.requests_per_second,
        needs.read_bytes_per_second / 1e6,
        needs.sent_bytes_per_second / 1e6
    ));
    if stages.decode_transform.spread() > WIDE_SPREAD {
        print(format!(
            "the rounds of decoding lie {:.0} % apart: other work on this machine, or clips that differ much; --seconds \
             makes rounds longer",
            stages.decode_transform.spread() * 100.0
        ));
    }
    if verdict.broken > 0 {
        print(format!("{} times a clip was broken and did not count, the first: {fault}", verdict.broken));
    }
}

fn line(name: &str, rate: &Rate, of: &str) -> String {
    let rounds = format!("{:.1} to {:.1}", rate.low, rate.high);
    format!("{name:20}{:>10.1}   {rounds:20}{of}", rate.median)
}
