//! `dataloader pack`: video files become a data set.

pub mod examine;
pub mod list;
pub mod write;

use anyhow::anyhow;
use futures::StreamExt;
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use runtime::telemetry;

use self::examine::{Examined, examine};
use self::list::{Entry, LeftOut, Listing, number_of};
use self::write::{Writer, Written};
use crate::args::PackArgs;
use crate::config::cores;
use runtime::progress::Progress;

const MIB: u64 = 1 << 20;
/// Broken files that are named on the terminal; the rest is counted.
const NAMED: usize = 50;

/// One data set to write.
pub struct Job {
    /// The files.
    pub listing: Listing,
    /// The classes that their labels refer to.
    pub classes: Vec<String>,
    /// Where it goes.
    pub store: Store,
    /// Size at which a shard is closed.
    pub shard_bytes: u64,
}

/// What became of a job.
#[derive(Debug)]
pub struct Packed {
    /// What was written.
    pub written: Written,
    /// What was not.
    pub left_out: Vec<LeftOut>,
}

/// Checks everything, then packs train and held-out clips.
pub async fn main(args: PackArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    let mut left_out = 0;
    for job in jobs(&args).await? {
        let packed = pack(job, &shutdown).await?;
        report(&packed);
        left_out += packed.left_out.len();
    }
    // The index is complete without them, but who asked for all of them must hear of it.
    Ok(if left_out > 0 && !args.keep_going { Code::Failed } else { Code::Done })
}

/// Reads the lists and opens the places. Nothing is written yet.
async fn jobs(args: &PackArgs) -> anyhow::Result<Vec<Job>> {
    let read = |from| list::read(from, args.root.as_deref(), args.keep_going).code(Code::Misconfigured);
    let mut listings = vec![(read(&args.from)?, &args.to)];
    if let (Some(from), Some(to)) = (&args.val_from, &args.val_to) {
        listings.push((read(from)?, to));
    }
    let named = args.classes.as_deref().map(list::read_classes).transpose().code(Code::Misconfigured)?;
    let all: Vec<&Listing> = listings.iter().map(|(listing, _)| listing).collect();
    let classes = list::classes(&all, named).code(Code::Misconfigured)?;
    let mut jobs = Vec::new();
    for (listing, to) in listings {
        let store = write::open(to, args.replace).await?;
        jobs.push(Job { listing, classes: classes.clone(), store, shard_bytes: args.shard_mib * MIB });
    }
    Ok(jobs)
}

/// Packs one data set. Files are examined side by side and written in the order of the listing.
pub async fn pack(job: Job, shutdown: &Shutdown) -> anyhow::Result<Packed> {
    let Job { listing, classes, store, shard_bytes } = job;
    let mut progress = Progress::new("packing", listing.entries.len() as u64);
    let (url, mut left_out) = (store.url.clone(), listing.passed_over);
    let mut writer = Writer::new(store, shard_bytes);
    let mut examined = futures::stream::iter(listing.entries).map(examined).buffered(cores());
    while let Some((entry, outcome)) = examined.next().await {
        if shutdown.soon.is_cancelled() {
            return Err(anyhow!("stopped before the end: there is no data set at {url} yet, pack again"))
                .code(Code::ComeBack);
        }
        match outcome {
            Ok(video) => {
                let label = number_of(&entry.label, &classes).expect("the classes were made of these labels");
                writer.add(&entry, &classes[label as usize], (label, video)).await?;
            }
            Err(reason) => left_out.push(LeftOut { name: entry.name, reason }),
        }
        progress.add(1);
    }
    if let (true, Some(first)) = (writer.is_empty(), left_out.first()) {
        let (count, LeftOut { name, reason }) = (left_out.len(), first);
        return Err(anyhow!("none of the {count} files can be packed; the first is {name}: {reason}"));
    }
    let written = writer.finish(classes).await?;
    Ok(Packed { written, left_out })
}

/// On a thread that may block: reading and decoding would hold up the uploads.
async fn examined(entry: Entry) -> (Entry, Result<Examined, String>) {
    let path = entry.path.clone();
    let outcome = tokio::task::spawn_blocking(move || examine(&path)).await;
    (entry, outcome.unwrap_or_else(|fault| Err(format!("the decoder failed on it: {fault}"))))
}

/// Says what was written and what was not.
pub fn report(packed: &Packed) {
    let Written { url, clips, shards, bytes } = &packed.written;
    telemetry::print(format_args!(
        "packed {clips} clips ({:.1} MB) into {shards} {} at {url}",
        *bytes as f64 / 1e6,
        if *shards == 1 { "shard" } else { "shards" }
    ));
    for LeftOut { name, reason } in packed.left_out.iter().take(NAMED) {
        telemetry::print(format_args!("left out {name}: {reason}"));
    }
    if packed.left_out.len() > NAMED {
        telemetry::print(format_args!("left out {} more", packed.left_out.len() - NAMED));
    }
}
