//! Several views of each clip in a batch.

use std::sync::Arc;

use clips::View;
use proto::loader::{Batch, Split};

use crate::footage::{File, data_set, videos};
use crate::run::recipe;
use crate::stages::{BARE, Bench, Memory, opened};

const VIEWS: usize = 3;

/// Positions 2 to 9 of six clips, of which one is broken, and the held-out clip.
async fn batches(name: &str, changes: &str, memory: Memory) -> (Bench, [Batch; 2]) {
    let url = format!("memory://{name}");
    let files: Vec<File> = (0..6).map(|n| if n == 4 { File::WebPage } else { File::Video(n) }).collect();
    data_set(&format!("{url}/train"), &files).await;
    data_set(&format!("{url}/val"), &files[..1]).await;
    let recipe = format!("{}\n{changes}", recipe());
    let bench = Bench::start(Arc::new(opened(&recipe, &url, |inner| inner).await), 2, memory).await;
    let batches = [bench.batch(Split::Train, 2, 8).await, bench.batch(Split::Val, 0, 1).await];
    (bench, batches)
}

fn rows(batch: &Batch) -> Vec<&[u8]> {
    batch.pixels_nthwc.chunks((batch.frames * batch.height * batch.width * 3) as usize).collect()
}

#[tokio::test]
async fn each_position_is_shown_in_views_that_follow_from_its_seed() {
    let mirrored = "mirrored = [[\"left\", \"right\"]]";
    let (bench, [once, held_out]) = batches("once", mirrored, BARE).await;
    let (_, [many, held_out_too]) = batches("once", &format!("views = {VIEWS}\n{mirrored}"), BARE).await;
    assert_eq!((once.views, many.views, many.labels.len(), many.keys.len()), (1, 3, 24, 24));
    assert_eq!(rows(&many).len(), 24);
    assert_eq!((held_out.views, held_out), (1, held_out_too), "held-out clips are shown once");
    assert_eq!(many.replaced, once.replaced, "the broken clip is told once a position");
    let mut differ = 0;
    for (n, position) in (2..10).enumerate() {
        let seed = bench.set.plan.augment_seed(position);
        let row = n * VIEWS;
        assert_eq!(rows(&many)[row], rows(&once)[n], "the first view of position {position} is the only one of others");
        for view in 0..VIEWS {
            let key = &many.keys[row + view];
            assert_eq!((many.positions[row + view], key), (position, &once.keys[n]));
            let clip: usize = key.trim_start_matches("clip-").parse().expect("a number");
            let seed = View::seed_of(seed, view as u32);
            let mut scaler = clips::Scaler::default();
            let alone = clips::render(&bench.set.config, videos()[clip].clone(), Some(seed), &mut scaler);
            assert_eq!(rows(&many)[row + view], alone.expect("renders"), "view {view} of position {position}");
            let is_mirrored = View::train(&bench.set.config, seed).is_mirrored();
            assert_eq!(many.labels[row + view], (clip % 2) as u32 ^ u32::from(is_mirrored));
        }
        differ += usize::from(many.labels[row..][..VIEWS].windows(2).any(|pair| pair[0] != pair[1]));
        assert_ne!(rows(&many)[row], rows(&many)[row + 1], "position {position}");
    }
    assert!(differ > 0, "a clip has both labels, where one of its views is mirrored");
}

#[tokio::test]
async fn all_ways_of_reading_show_the_same_views() {
    let whole = format!("views = {VIEWS}");
    let (_, expected) = batches("same-views", &whole, BARE).await;
    let frames = Memory { frame_bytes: 1 << 30, ..BARE };
    let ahead = Memory { ahead_bytes: 1 << 20, file_bytes: 1 << 20, ..BARE };
    let groups = format!("{whole}\nread = \"groups\"");
    for (recipe, memory) in [(&whole, frames), (&whole, ahead.clone()), (&groups, BARE), (&groups, ahead)] {
        let (_, found) = batches("same-views", recipe, memory.clone()).await;
        assert!(found == expected, "{recipe}, {memory:?}");
    }
}
