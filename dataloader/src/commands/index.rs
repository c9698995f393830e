//! `dataloader index`: an index over videos and shards that are in a store already. Nothing is copied.

use std::pin::pin;

use anyhow::anyhow;
use futures::StreamExt;
use object_store::path::Path;
use runtime::exit::{Code, WithCode};
use runtime::progress::Progress;
use runtime::shutdown::Shutdown;
use runtime::telemetry;

use super::pack::draft::Draft;
use super::pack::examine::Standing;
use super::pack::feed::{Fed, feed};
use super::pack::plan::{Mode, Plan, Settings};
use super::pack::report::{self, Packed};
use super::pack::target::Target;
use super::pack::{interrupted, journal};
use crate::args::IndexArgs;
use crate::config::jobs;
use crate::decoder::Pool;
use crate::sources::{self, Ask, Fault, ListError, Opened, Root, Trouble};

/// Videos after which the journal gets another part.
const PART_CLIPS: usize = 500;

/// Looks at every video, then writes the index.
pub async fn main(args: IndexArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    let plan = match plan(&args).await {
        Ok(plan) => plan,
        Err(error) => return Err(report::refused(error, args.left_out.report.as_deref())),
    };
    if args.dry_run {
        report::tell_plan(&plan, &args.url);
        return Ok(Code::Done);
    }
    let target = Target::open(&args.url, &plan, args.replace).await?;
    let pool = Pool::start(plan.settings.jobs, args.effort.decoder.clone()).await?;
    let packed = [index(plan, target, (&pool, &shutdown)).await?];
    let Packed { url, report } = &packed[0];
    let (clips, megabytes) = (report.clips, report.bytes as f64 / 1e6);
    telemetry::print(format_args!("indexed {clips} clips ({megabytes:.1} MB) in {} objects at {url}", report.shards));
    report::tell_left_out(&report.left_out);
    report::save(&packed, args.left_out.report.as_deref())?;
    Ok(report::code(&packed, args.left_out.keep_going))
}

async fn plan(args: &IndexArgs) -> Result<Plan, ListError> {
    let Opened::Folder(root) = sources::open(&args.url).await? else {
        let why = format!("{} is a file: give the folder or prefix, where the index will be", args.url);
        return Err(ListError::Whole(why));
    };
    let ask = Ask { root: Some(args.url.clone()), split: args.split.clone(), keep_going: args.left_out.keep_going };
    let listing = sources::read(args.list.as_ref().unwrap_or(&args.url), &ask).await?;
    let named = match &args.classes {
        Some(file) => Some(sources::read_classes(file).await?),
        None => None,
    };
    let classes = sources::classes(&[&listing], named)?;
    let (jobs, memory_bytes) = (jobs(args.effort.jobs), args.effort.memory_mib << 20);
    let mut plan = Plan::new(listing, classes, Settings { mode: Mode::InPlace, shard_bytes: 0, jobs, memory_bytes });
    let mut faults = Vec::new();
    for item in &mut plan.items {
        match object(&root, item.entry.place.name_below(&root)) {
            Ok(object) => item.object = object,
            Err(what) => {
                let (line, listed) = (item.entry.line, item.listed.clone());
                faults.push(Fault { line, listed, what, passable: false });
            }
        }
    }
    if faults.is_empty() { Ok(plan) } else { Err(ListError::Faults(faults)) }
}

/// The name of an object as the index will hold it.
fn object(root: &Root, name: Option<String>) -> Result<String, String> {
    let name = name.ok_or_else(|| format!("it is not below {}, where the index will be", root.show()))?;
    // What would be escaped on the way is not found.
    if Path::parse(&name).is_err() {
        return Err(format!("the name {name:?} holds a sign that no object's name may hold: rename it"));
    }
    Ok(name)
}

async fn index(mut plan: Plan, target: Target, (pool, shutdown): (&Pool, &Shutdown)) -> anyhow::Result<Packed> {
    let Target { store, parts, done } = target;
    let url = store.url.clone();
    if let Some(report) = done {
        journal::clear(&store).await?;
        telemetry::print(format_args!("all of it is at {url} already; --replace makes it anew"));
        return Ok(Packed { url, report });
    }
    let mut draft = Draft::new(&plan, parts);
    let mut progress = Progress::resumed("indexing", plan.items.len() as u64, draft.position() as u64);
    let items = std::mem::take(&mut plan.items).into_iter().skip(draft.position());
    let mut fed = pin!(feed(items, plan.settings, pool));
    loop {
        let next = tokio::select! {
            next = fed.next() => next,
            () = shutdown.soon.cancelled() => {
                return Err(anyhow!("stopped before the end: there is no index at {url} yet; the same command goes on"))
                    .code(Code::ComeBack);
            }
        };
        let Some(Fed { item, outcome, share: _share }) = next else { break };
        match outcome {
            Ok(video) => {
                let offset_bytes = item.entry.range.map_or(0, |range| range.start);
                let standing = Standing { key: item.key, label: item.label, object: item.object, offset_bytes };
                draft.add(video.clip(standing));
            }
            Err(Trouble::File(reason)) => draft.leave_out(item, reason),
            Err(Trouble::Any(why)) => return Err(interrupted(&item, &why)).code(Code::ComeBack),
        }
        if draft.open_len() == PART_CLIPS {
            let (number, part) = draft.cut(None);
            journal::write(&store, number, &part).await?;
        }
        progress.add(1);
    }
    let report = draft.seal(&store, plan).await?;
    Ok(Packed { url, report })
}
