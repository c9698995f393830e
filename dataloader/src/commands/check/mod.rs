//! `dataloader check`: compares a data set with its index, clip by clip.

mod inspect;
mod state;

use std::pin::pin;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clips::Index;
use clips::index::INDEX_OBJECT;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use runtime::exit::{Code, WithCode};
use runtime::progress::Progress;
use runtime::shutdown::Shutdown;
use runtime::store::{self, Store};
use runtime::telemetry;

use self::inspect::{Effort, inspected};
use self::state::{Head, State};
use crate::args::CheckArgs;
use crate::config::jobs;
use crate::decoder::Pool;

/// A clip that is not as the index says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bad {
    /// Its place in the index, from 0.
    pub clip: usize,
    /// Its name.
    pub key: String,
    /// Where it should be.
    pub object: String,
    /// Who is at fault: `store`, `file` or `index`.
    pub fault: String,
    /// What is wrong.
    pub reason: String,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Verdict<'a> {
    url: &'a str,
    digest: &'a str,
    clips: usize,
    bytes: u64,
    decoded: bool,
    bad: &'a [Bad],
}

/// Checks every clip; names the bad ones.
pub async fn main(args: CheckArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    let store = store::open_existing(&args.url).code(Code::Misconfigured)?;
    let index = open(&store).await?;
    let head = Head { digest: index.digest(), clips: index.clips.len(), decoded: !args.no_decode };
    let (digest, clips, decoded) = (head.digest.clone(), head.clips, head.decoded);
    let mut state = State::open(args.state.as_deref(), head)?;
    let effort = Effort { jobs: jobs(args.effort.jobs), memory_bytes: args.effort.memory_mib << 20, decode: decoded };
    let bytes = index.clips.iter().map(|clip| clip.length_bytes).sum();
    let pool = Pool::start(effort.jobs, args.effort.decoder.clone()).await?;
    check((&store, &pool), index, (effort, &mut state, &shutdown)).await?;
    let bad = state.finish()?;
    if args.json {
        let verdict = Verdict { url: &store.url, digest: &digest, clips, bytes, decoded, bad: &bad };
        telemetry::print(serde_json::to_string(&verdict).context("can't write the verdict as JSON")?);
    } else {
        bad.iter().for_each(tell);
        let (url, megabytes) = (&store.url, bytes as f64 / 1e6);
        telemetry::print(format_args!("checked {clips} clips ({megabytes:.1} MB) at {url}: {} bad", bad.len()));
    }
    Ok(if bad.is_empty() { Code::Done } else { Code::Failed })
}

async fn open(store: &Store) -> anyhow::Result<Index> {
    let read = async { store.store.get(&store.path(INDEX_OBJECT)).await?.bytes().await };
    let bytes: Bytes = match read.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => {
            let why = anyhow!(
                "there is no data set at {}: no {INDEX_OBJECT}; make one with `dataloader pack` or `dataloader index`",
                store.url
            );
            return Err(why).code(Code::Misconfigured);
        }
        Err(error) => return Err(error).with_context(|| format!("can't read {INDEX_OBJECT} at {}", store.url)),
    };
    Index::parse(&bytes).with_context(|| format!("the index {INDEX_OBJECT} at {} is bad", store.url))
}

fn tell(bad: &Bad) {
    let Bad { clip, key, object, fault, reason } = bad;
    telemetry::print(format_args!("bad: clip {clip}, {key:?} in {object}: {reason} ({fault})"));
}

type Errand<'a> = (Effort, &'a mut State, &'a Shutdown);

async fn check(
    (store, pool): (&Store, &Pool),
    index: Index,
    (effort, state, shutdown): Errand<'_>,
) -> anyhow::Result<()> {
    let (total, start) = (index.clips.len(), state.checked());
    let mut progress = Progress::resumed("checking", total as u64, start as u64);
    let clips = index.clips.into_iter().enumerate().skip(start);
    let mut inspected = pin!(inspected((store, pool), clips, effort));
    loop {
        let next = tokio::select! {
            next = inspected.next() => next,
            () = shutdown.soon.cancelled() => {
                state.save()?;
                let hint = if state.is_kept() { "the same command goes on" } else { "with --state FILE it would go on" };
                return Err(anyhow!("stopped after {} of {total} clips: {hint}", state.checked())).code(Code::ComeBack);
            }
        };
        let Some(outcome) = next else { return Ok(()) };
        // What the store can't say of one clip it can't say of any.
        let bad = match outcome {
            Ok(bad) => bad,
            Err(why) => {
                state.save()?;
                return Err(anyhow!("{why}")).code(Code::ComeBack);
            }
        };
        state.note(bad)?;
        progress.add(1);
    }
}
