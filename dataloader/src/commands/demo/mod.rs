//! `dataloader demo`: a labelled data set whose redundancy in time is known by construction.

pub mod ffmpeg;
pub mod footage;
pub mod motion;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use cluster::seed::derive;
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use runtime::telemetry;

use self::footage::{Footage, Source};
use self::motion::{CLIP_FRAMES, Cut, Motion, Stage};
use super::pack::plan::{Mode, Plan, Settings};
use super::pack::target::{self, Target};
use super::pack::{self, report};
use crate::args::DemoArgs;
use crate::config::cores;
use crate::decoder::Pool;
use crate::sources::{Entry, Label, Listing, Place};
use runtime::progress::Progress;

/// No clip is longer: about a second of small frames.
const LONGEST_BYTES: u64 = 1 << 20;
/// Clips that one call of the ffmpeg program cuts.
const CLIPS_A_CALL: usize = 16;

/// A source made ready: small, and the same six times as fast.
struct Ready {
    name: String,
    plain: (PathBuf, Stage),
    fast: Option<(PathBuf, Stage)>,
}

/// Makes the demo data set unless it is there.
pub async fn main(args: DemoArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    super::ffmpeg::check().await?;
    let footage = match &args.footage {
        Some(folder) => footage::find(folder).code(Code::Misconfigured)?,
        None => footage::render(),
    };
    let place = |split: &str| format!("{}/{split}", args.to.trim_end_matches('/'));
    let (train, val) = (target::place(&place("train"))?, target::place(&place("val"))?);
    if !args.replace && target::exists(&train).await? && target::exists(&val).await? {
        telemetry::print(format_args!("the demo data set is at {} already (--replace makes it anew)", args.to));
        return Ok(Code::Done);
    }
    telemetry::print(format_args!("cutting {} clips from {}", 8 * (args.train_clips + args.val_clips), footage.origin));
    let folder = tempfile::tempdir().context("can't make a temporary folder")?;
    let (train_clips, val_clips) = cut_all(&args, footage, (folder.path(), &shutdown)).await?;
    let classes: Vec<String> = Motion::ALL.iter().map(|motion| motion.name().to_owned()).collect();
    let pool = Pool::start(cores(), args.decoder.clone()).await?;
    for (entries, store) in [(train_clips, train), (val_clips, val)] {
        let listing = Listing { entries, ..Listing::default() };
        let settings = Settings { mode: Mode::Keep, shard_bytes: 64 << 20, jobs: cores(), memory_bytes: 256 << 20 };
        // Cut anew each time: nothing of an earlier run is gone on with.
        let target = Target::fresh(store).await?;
        let packed = pack::pack(Plan::new(listing, classes.clone(), settings), target, (&pool, &shutdown)).await?;
        if let Some(broken) = packed.report.left_out.first() {
            bail!("ffmpeg made a clip that can't be decoded: {}: {}", broken.name, broken.reason);
        }
        report::tell(&packed);
    }
    Ok(Code::Done)
}

type Clips = (Vec<Entry>, Vec<Entry>);

async fn cut_all(args: &DemoArgs, footage: Footage, (folder, shutdown): (&Path, &Shutdown)) -> anyhow::Result<Clips> {
    let train = prepare(footage.train, (folder, shutdown)).await?;
    let val = prepare(footage.val, (folder, shutdown)).await?;
    let mut clips = Vec::new();
    let train = plan(("train", args.train_clips, args.seed), &train, (folder, &mut clips))?;
    let val = plan(("val", args.val_clips, args.seed), &val, (folder, &mut clips))?;
    let mut progress = Progress::new("cutting", clips.len() as u64);
    let calls = clips.chunks(CLIPS_A_CALL).map(ffmpeg::cut).collect();
    let mut left = clips.len();
    ffmpeg::run_all(calls, shutdown, || {
        let done = left.min(CLIPS_A_CALL);
        left -= done;
        progress.add(done as u64);
    })
    .await?;
    Ok((train, val))
}

async fn prepare(sources: Vec<Source>, (folder, shutdown): (&Path, &Shutdown)) -> anyhow::Result<Vec<Ready>> {
    let file = |source: &Source, speed: &str| folder.join(format!("{}_{speed}.mkv", source.name));
    let calls = sources.iter().map(|source| ffmpeg::prepare(source, &file(source, "1x"))).collect();
    ffmpeg::run_all(calls, shutdown, || {}).await?;
    let lively = sources.iter().filter(|source| source.lively);
    let calls = lively.map(|source| ffmpeg::speed_up(&file(source, "1x"), &file(source, "6x"))).collect();
    ffmpeg::run_all(calls, shutdown, || {}).await?;
    let mut ready = Vec::new();
    for source in sources {
        let stage = |path: PathBuf| look(&path, source.centre).map(|stage| (path, stage));
        let plain = stage(file(&source, "1x")).with_context(|| format!("can't use the video {:?}", source.content))?;
        let fast = source.lively.then(|| stage(file(&source, "6x"))).transpose()?;
        ready.push(Ready { name: source.name, plain, fast });
    }
    Ok(ready)
}

fn look(path: &Path, centre: (f64, f64)) -> anyhow::Result<Stage> {
    let video = clips::Video::open(Bytes::from(std::fs::read(path)?))?;
    let (width, height, frames) = (video.width(), video.height(), video.frame_count());
    if frames < CLIP_FRAMES {
        bail!("it has {frames} frames, a clip needs {CLIP_FRAMES}");
    }
    Ok(Stage { width, height, frames, centre })
}

/// Lists the cuts of one split, class by class, and the files that they will be.
fn plan(
    (split, each, seed): (&str, u32, u64),
    ready: &[Ready],
    (folder, cuts): (&Path, &mut Vec<(PathBuf, Cut, PathBuf)>),
) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for motion in Motion::ALL {
        let class = motion.name();
        let place = folder.join(split).join(class);
        std::fs::create_dir_all(&place).with_context(|| format!("can't create {}", place.display()))?;
        let pool: Vec<(&str, &(PathBuf, Stage))> = match motion {
            Motion::FastPlay => ready.iter().filter_map(|r| Some((r.name.as_str(), r.fast.as_ref()?))).collect(),
            _ => ready.iter().map(|r| (r.name.as_str(), &r.plain)).collect(),
        };
        for n in 0..each {
            let (source, (footage, stage)) = pool[n as usize % pool.len()];
            let name = format!("{class}/{source}_{n:04}.mp4");
            let path = folder.join(split).join(&name);
            let cut = Cut::new(motion, stage, derive(seed, &format!("demo/{split}/{class}"), &[n.into()]));
            cuts.push((footage.clone(), cut, path.clone()));
            let label = Label::Name(class.to_owned());
            // Its length is known once it is cut.
            let (place, length_bytes) = (Place::File(path), LONGEST_BYTES);
            entries.push(Entry { name, place, range: None, length_bytes, label, line: 0, key: None });
        }
    }
    Ok(entries)
}
