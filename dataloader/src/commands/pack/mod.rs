//! `dataloader pack`: video files become a data set.
//!
//! ```text
//! sources ── Plan (keys, labels, identity) ── feed: read, decode once, encode anew ── Writer: shard, part, …, index
//! ```

pub mod draft;
pub mod examine;
pub mod feed;
pub mod journal;
pub mod plan;
pub mod reencode;
pub mod report;
pub mod target;
pub mod write;

use anyhow::anyhow;
use futures::StreamExt;
use runtime::exit::{Code, WithCode};
use runtime::progress::Progress;
use runtime::shutdown::Shutdown;
use runtime::telemetry;

use self::feed::{Fed, feed};
use self::plan::{Item, Mode, Plan};
use self::report::Packed;
use self::target::Target;
use self::write::Writer;
use super::ffmpeg;
use crate::args::PackArgs;
use crate::decoder::Pool;
use crate::sources::{self, Ask, ListError, Listing, Trouble};

/// Checks everything, then packs train and held-out clips.
pub async fn main(args: PackArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    if args.val_to.as_deref().is_some_and(|to| to.trim_end_matches('/') == args.to.trim_end_matches('/')) {
        return Err(anyhow!("--to and --val-to are the same place: each set has an index of its own"))
            .code(Code::Misconfigured);
    }
    let plans = match plans(&args).await {
        Ok(plans) => plans,
        Err(error) => return Err(report::refused(error, args.left_out.report.as_deref())),
    };
    if args.dry_run {
        plans.iter().for_each(|(plan, to)| report::tell_plan(plan, to));
        return Ok(Code::Done);
    }
    if args.reencode.is_some() {
        ffmpeg::check().await?;
    }
    let mut jobs = Vec::new();
    for (plan, to) in plans {
        let target = Target::open(to, &plan, args.replace).await?;
        jobs.push((plan, target));
    }
    let pool = Pool::start(args.settings().jobs, args.effort.decoder.clone()).await?;
    let mut packed = Vec::new();
    for (plan, target) in jobs {
        packed.push(pack(plan, target, (&pool, &shutdown)).await?);
    }
    packed.iter().for_each(report::tell);
    report::save(&packed, args.left_out.report.as_deref())?;
    Ok(report::code(&packed, args.left_out.keep_going))
}

/// Reads the lists. Nothing is written yet, and no video read.
async fn plans(args: &PackArgs) -> Result<Vec<(Plan, &String)>, ListError> {
    let ask = |split: &Option<String>| Ask {
        root: args.root.clone(),
        split: split.clone(),
        keep_going: args.left_out.keep_going,
    };
    let mut listings = vec![(sources::read(&args.from, &ask(&args.split)).await?, &args.to)];
    if let (Some(from), Some(to)) = (&args.val_from, &args.val_to) {
        listings.push((sources::read(from, &ask(&args.val_split)).await?, to));
    }
    let named = match &args.classes {
        Some(file) => Some(sources::read_classes(file).await?),
        None => None,
    };
    let all: Vec<&Listing> = listings.iter().map(|(listing, _)| listing).collect();
    let classes = sources::classes(&all, named)?;
    let settings = args.settings();
    Ok(listings.into_iter().map(|(listing, to)| (Plan::new(listing, classes.clone(), settings), to)).collect())
}

/// What stops everything, because it would be any video.
pub fn interrupted(item: &Item, why: &str) -> anyhow::Error {
    anyhow!("can't go on with {}: {why}; once that is mended the same command goes on", item.entry.name)
}

/// Packs one data set. Files are examined side by side and written in the order of the listing.
pub async fn pack(mut plan: Plan, target: Target, (pool, shutdown): (&Pool, &Shutdown)) -> anyhow::Result<Packed> {
    let Target { store, parts, done } = target;
    let url = store.url.clone();
    if let Some(report) = done {
        journal::clear(&store).await?;
        telemetry::print(format_args!("all of it is at {url} already; --replace makes it anew"));
        return Ok(Packed { url, report });
    }
    let mut writer = Writer::new(&plan, store, parts);
    let what = if plan.settings.mode == Mode::Keep { "packing" } else { "encoding" };
    let mut progress = Progress::resumed(what, plan.items.len() as u64, writer.position() as u64);
    let items = std::mem::take(&mut plan.items).into_iter().skip(writer.position());
    let mut fed = std::pin::pin!(feed(items, plan.settings, pool));
    loop {
        let next = tokio::select! {
            next = fed.next() => next,
            () = shutdown.soon.cancelled() => {
                writer.uploaded().await?;
                return Err(anyhow!("stopped before the end: there is no data set at {url} yet; the same command goes on"))
                    .code(Code::ComeBack);
            }
        };
        let Some(Fed { item, outcome, share }) = next else { break };
        match outcome {
            Ok(video) => writer.add(&item, &video).await?,
            Err(Trouble::File(reason)) => writer.leave_out(item, reason),
            Err(Trouble::Any(why)) => {
                writer.uploaded().await?;
                return Err(interrupted(&item, &why)).code(Code::ComeBack);
            }
        }
        drop(share);
        progress.add(1);
    }
    let report = writer.finish(plan).await?;
    Ok(Packed { url, report })
}
