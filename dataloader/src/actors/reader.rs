//! Reads video files out of their shards, checks them against the index, and keeps what was used last.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clips::Clip;
use futures::future::join_all;
use runtime::exit::one_line;
use runtime::store::guard::is_transient;
use tokio::sync::OnceCell;

use crate::data::{ClipRef, Piece, PieceKey, Pieces};
use crate::error::{ClipFault, RenderError};

/// Reads, and remembers what it read.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(super) pieces: Arc<Pieces>,
    /// Pages of outlines on their way: whoever wants one of them waits for it.
    pub(super) pages: Arc<Mutex<HashMap<PieceKey, Arc<OnceCell<Bytes>>>>>,
}

impl Reader {
    /// One that knows nothing yet but these.
    pub(crate) fn new(pieces: Pieces) -> Self {
        Self { pieces: Arc::new(pieces), pages: Arc::default() }
    }

    /// A whole file.
    pub(crate) async fn whole(&self, clip: &ClipRef) -> Result<Bytes, RenderError> {
        let mut files = self.together(std::slice::from_ref(clip)).await?;
        files.remove(0).map_err(RenderError::from)
    }

    /// Whole files that lie in one object, in one go. `Err` if the object can't be read, in it a file's own fault.
    ///
    /// # Panics
    /// If there are no clips.
    pub(super) async fn together(&self, clips: &[ClipRef]) -> Result<Vec<Result<Bytes, ClipFault>>, RenderError> {
        let key = |clip: &ClipRef| PieceKey { part: clip.part.id, number: clip.number, piece: Piece::Whole };
        let kept = clips.iter().map(|clip| {
            let is_good = |file: &Bytes| checked(clip.clip(), file.clone()).is_ok();
            self.pieces.get(key(clip), is_good)
        });
        let mut files: Vec<_> = join_all(kept).await.into_iter().map(|file| file.map(Ok)).collect();
        let missing: Vec<usize> = (0..clips.len()).filter(|&n| files[n].is_none()).collect();
        if !missing.is_empty() {
            let ranges: Vec<Range<u64>> = missing.iter().map(|&n| clips[n].clip().range_bytes()).collect();
            let read = self.read(&clips[0], &clips[0].clip().object, &ranges).await?;
            for (n, file) in missing.into_iter().zip(read) {
                let file = checked(clips[n].clip(), own(file));
                if let Ok(file) = &file {
                    self.pieces.put(key(&clips[n]), file).await;
                }
                files[n] = Some(file);
            }
        }
        let short = |clip: &ClipRef| Err(fault(&clip.clip().object, "the store left it out".to_owned()));
        Ok(files.into_iter().zip(clips).map(|(file, clip)| file.unwrap_or_else(|| short(clip))).collect())
    }

    /// Some ranges of an object of a clip's data set. The store's hiccups are waited out below.
    pub(super) async fn read(
        &self,
        clip: &ClipRef,
        object: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, RenderError> {
        let store = &clip.part.store;
        store.store.get_ranges(&store.path(object), ranges).await.map_err(|error| match is_transient(&error) {
            true => {
                let what = format!("can't read {object} in {}", store.url);
                RenderError::Store(one_line(&anyhow::Error::new(error).context(what)))
            }
            false => fault(object, error.to_string()).into(),
        })
    }
}

/// What is wrong with an object.
pub(super) fn fault(object: &str, reason: String) -> ClipFault {
    ClipFault::Object { object: object.to_owned(), reason }
}

/// A copy of its own where the store handed out a piece of something larger, which the cache would keep alive.
pub(super) fn own(file: Bytes) -> Bytes {
    if file.is_unique() { file } else { Bytes::copy_from_slice(&file) }
}

fn checked(clip: &Clip, file: Bytes) -> Result<Bytes, ClipFault> {
    same(&clip.object, (clip.length_bytes, clip.crc32c), file)
}

/// A piece of an object, if it is the one that was packed.
pub(super) fn same(object: &str, (length_bytes, expected): (u64, u32), piece: Bytes) -> Result<Bytes, ClipFault> {
    if piece.len() as u64 != length_bytes {
        return Err(fault(object, format!("{} bytes came instead of {length_bytes}", piece.len())));
    }
    let found = crc32c::crc32c(&piece);
    if found != expected {
        return Err(ClipFault::Checksum { object: object.to_owned(), found, expected });
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_file_keeps_nothing_else_alive() {
        let shard = Bytes::from(vec![7; 1000]);
        let file = own(shard.slice(10..20));
        assert_eq!((file.as_ref(), file.is_unique()), (&[7; 10][..], true));
    }
}
