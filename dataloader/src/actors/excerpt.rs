//! Reads only the groups of pictures that a view needs, and makes an excerpt of them for the decoder.
//!
//! Which they are is known from the clip's outline in the index, before anything of the clip is read. What lies side by
//! side comes in one request; each group is checked by itself, and kept by itself for other views.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use clips::Outline;
use clips::decode::Group;
use clips::index::{INDEX_OBJECT, unseal};
use futures::future::join_all;
use tokio::sync::OnceCell;

use super::fetch::ViewRef;
use super::reader::{Reader, fault, own, same};
use crate::data::{ClipRef, Piece, PieceKey};
use crate::error::{ClipFault, RenderError};

impl Reader {
    /// A file that shows a view: an excerpt, or the whole file of a clip that has no outline.
    pub(super) async fn excerpt(&self, view: &ViewRef) -> Result<Bytes, RenderError> {
        let clip = &view.clip;
        if clip.clip().groups == 0 {
            return self.whole(clip).await;
        }
        let outline = self.outline(clip).await?;
        let config = &view.set.config;
        let views = clips::wanted(config, view.augment_seed);
        let frames = clips::indices(config, &views, outline.frame_count());
        let need = outline.needed(&frames);
        let needed = &outline.groups()[need.groups.clone()];
        let groups = self.groups(clip, need.groups.start, needed).await?;
        Ok(outline.excerpt(&need, &groups))
    }

    /// The outline of a clip that has one.
    async fn outline(&self, clip: &ClipRef) -> Result<Outline, RenderError> {
        let (page, range) = clip.part.outlines.page_of(clip.number);
        let key = PieceKey { part: clip.part.id, number: page as u64, piece: Piece::Outlines };
        if let Some(kept) = self.pieces.get(key, |bytes| outline_in(bytes.clone(), clip).is_ok()).await {
            return Ok(outline_in(kept, clip)?);
        }
        let page = Arc::clone(self.coming().entry(key).or_default());
        let read = page.get_or_try_init(|| async {
            let read = self.read(clip, INDEX_OBJECT, &[range]).await?;
            let bytes = read.into_iter().next().map(own).unwrap_or_default();
            outline_in(bytes.clone(), clip)?;
            self.pieces.put(key, &bytes).await;
            Ok::<_, RenderError>(bytes)
        });
        let read = read.await.cloned();
        self.coming().remove(&key);
        Ok(outline_in(read?, clip)?)
    }

    /// A panic elsewhere can't leave the map half-written.
    fn coming(&self) -> MutexGuard<'_, HashMap<PieceKey, Arc<OnceCell<Bytes>>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contents of some groups, of which the first has a number.
    async fn groups(&self, clip: &ClipRef, first: usize, groups: &[Group]) -> Result<Vec<Bytes>, RenderError> {
        let entry = clip.clip();
        let key = |number: usize| {
            let piece = Piece::Group((first + number) as u32);
            PieceKey { part: clip.part.id, number: clip.number, piece }
        };
        let packed = |number: usize| (groups[number].length_bytes(), groups[number].crc32c);
        let kept = (0..groups.len()).map(|number| {
            let is_good = move |piece: &Bytes| same(&entry.object, packed(number), piece.clone()).is_ok();
            self.pieces.get(key(number), is_good)
        });
        let mut found = join_all(kept).await;
        let missing: Vec<usize> = (0..groups.len()).filter(|&number| found[number].is_none()).collect();
        if !missing.is_empty() {
            let range = |&number: &usize| {
                let Range { start, end } = groups[number].range_bytes;
                entry.offset_bytes.saturating_add(start)..entry.offset_bytes.saturating_add(end)
            };
            let ranges: Vec<Range<u64>> = missing.iter().map(range).collect();
            let read = self.read(clip, &entry.object, &ranges).await?;
            for (&number, piece) in missing.iter().zip(read) {
                let piece = own(same(&entry.object, packed(number), piece)?);
                self.pieces.put(key(number), &piece).await;
                found[number] = Some(piece);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

/// The outline of a clip, out of its page.
fn outline_in(page: Bytes, clip: &ClipRef) -> Result<Outline, ClipFault> {
    let outlines = &clip.part.outlines;
    let (number, _) = outlines.page_of(clip.number);
    let strange = |reason: String| fault(INDEX_OBJECT, reason);
    let sealed = outlines.read(number, page).map_err(|error| strange(error.to_string()))?;
    let another = || strange("its outline there is damaged, or the data set was packed again meanwhile".to_owned());
    unseal(clip.clip().crc32c, &sealed[outlines.place_in(number, clip.number)]).ok_or_else(another)
}
