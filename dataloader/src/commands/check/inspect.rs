//! One clip against its entry in the index.

use bytes::Bytes;
use clips::Clip;
use futures::{Stream, StreamExt};
use runtime::store::Store;

use super::Bad;
use crate::commands::pack::examine::{Examined, Standing, examine};
use crate::commands::pack::feed::{Budget, READS_A_JOB};
use crate::decoder::Pool;
use crate::error::ClipFault;
use crate::sources::{Place, Trouble};

/// How a check works.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Clips that are decoded side by side.
    pub jobs: usize,
    /// Bytes of clips that are held at a time.
    pub memory_bytes: u64,
    /// Whether clips are decoded at all.
    pub decode: bool,
}

/// Each clip in order: bad or not. An error is the store's, and of no clip.
pub fn inspected<'a>(
    (store, pool): (&'a Store, &'a Pool),
    clips: impl Iterator<Item = (usize, Clip)>,
    effort: Effort,
) -> impl Stream<Item = Result<Option<Bad>, String>> {
    let Effort { jobs, memory_bytes, decode } = effort;
    let budget = Budget::new(memory_bytes);
    futures::stream::iter(clips)
        .then(move |(number, clip)| {
            let budget = budget.clone();
            async move {
                // The decoder holds the packets beside the file.
                let share = budget.take(2 * clip.length_bytes).await;
                (number, clip, share)
            }
        })
        .map(move |(number, clip, share)| async move {
            let read = read(store, &clip).await;
            (number, clip, read, share)
        })
        .buffered(jobs * READS_A_JOB)
        .map(move |(number, clip, read, share)| async move {
            let fault = match read? {
                Ok(bytes) if decode => compared(&clip, bytes, pool).await?,
                Ok(_) => Ok(()),
                Err(fault) => Err(("store", fault.to_string())),
            };
            drop(share);
            Ok(fault.err().map(|(fault, reason)| Bad {
                clip: number,
                key: clip.key,
                object: clip.object,
                fault: fault.to_owned(),
                reason,
            }))
        })
        .buffered(jobs)
}

/// The clip's bytes, or what is wrong with them; an error if the store does not answer.
async fn read(store: &Store, clip: &Clip) -> Result<Result<Bytes, ClipFault>, String> {
    let object = |reason: String| ClipFault::Object { object: clip.object.clone(), reason };
    let place = Place::Object(store.clone(), store.path(&clip.object));
    let bytes = match place.read(Some(clip.range_bytes())).await {
        Ok(bytes) => bytes,
        Err(Trouble::File(reason)) => return Ok(Err(object(reason))),
        Err(Trouble::Any(why)) => return Err(why),
    };
    if bytes.len() as u64 != clip.length_bytes {
        return Ok(Err(object(format!("{} bytes are there instead of {}", bytes.len(), clip.length_bytes))));
    }
    let found = crc32c::crc32c(&bytes);
    if found != clip.crc32c {
        let (object, expected) = (clip.object.clone(), clip.crc32c);
        return Ok(Err(ClipFault::Checksum { object, found, expected }));
    }
    Ok(Ok(bytes))
}

/// Decodes the clip and compares what comes out with the index.
async fn compared(clip: &Clip, bytes: Bytes, pool: &Pool) -> Result<Result<(), (&'static str, String)>, String> {
    let video = match examine(bytes, pool).await {
        Ok(video) => video,
        Err(Trouble::File(reason)) => return Ok(Err(("file", reason))),
        Err(Trouble::Any(why)) => return Err(why),
    };
    let Clip { key, label, object, offset_bytes, .. } = clip.clone();
    let expected = video.clip(Standing { key, label, object, offset_bytes });
    Ok(if expected == *clip { Ok(()) } else { Err(("index", difference(clip, &video))) })
}

fn difference(clip: &Clip, video: &Examined) -> String {
    let video = &video.description;
    if (video.width, video.height) != (clip.width, clip.height) {
        let (is, said) = ((video.width, video.height), (clip.width, clip.height));
        return format!("it is {} x {} pixels, the index says {} x {}", is.0, is.1, said.0, said.1);
    }
    if video.frames != clip.frames {
        return format!("it has {} frames, the index says {}", video.frames, clip.frames);
    }
    "the index says other things of it than the file: pack or index it again".to_owned()
}
