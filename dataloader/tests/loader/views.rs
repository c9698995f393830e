//! One video, looked at as a test looks at it.

use std::ops::ControlFlow;

use clips::{Placement, Scaler, Video, ViewConfig, ViewPixels};
use proto::loader::look::Placement as WirePlacement;
use proto::loader::views_reply::Reply;
use proto::loader::views_request::Request as Wish;
use proto::loader::{Facts, Look, SetClip, Split, Uniform, View, ViewsReply, ViewsRequest, Windows};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::footage::File::{self, Missing, Video as Good, WebPage};
use crate::footage::videos;
use crate::run::{LONG, Run};

fn look() -> Look {
    Look {
        clip: None,
        frames: 4,
        stride: 2,
        target_fps: 0.0,
        placement: Some(WirePlacement::Uniform(Uniform { views: 5 })),
        crops: 3,
        short_side: 32,
        crop: 24,
    }
}

/// What the library alone makes of the same.
fn expected(video: usize, placement: Placement) -> Vec<ViewPixels> {
    let config = ViewConfig { frames: 4, stride: 2, target_fps: None, placement, crops: 3, short_side: 32, crop: 24 };
    let video = Video::open(videos()[video].clone()).expect("opens");
    let layout = config.lay(video.frame_count(), video.fps()).expect("fits");
    let mut views = Vec::new();
    let mut keep = |view| {
        views.push(view);
        ControlFlow::Continue(())
    };
    clips::show(&video, (&config, &layout), &mut Scaler::default(), &mut keep).expect("decodes");
    views
}

/// One call; the requests end after what is given.
struct Call {
    replies: Streaming<ViewsReply>,
}

impl Call {
    async fn open(run: &Run, requests: Vec<Wish>) -> Result<Self, Status> {
        let (sender, stream) = mpsc::channel(16);
        for request in requests {
            sender.send(ViewsRequest { request: Some(request) }).await.expect("room");
        }
        drop(sender);
        let channel = proto::connect::lazy(&run.address, LONG).expect("an address");
        let replies = proto::connect::loader(channel).views(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { replies })
    }

    async fn file(run: &Run, look: Look, file: &[u8]) -> Self {
        let chunks =
            file.chunks(file.len().div_ceil(8).max(1)).map(|chunk| Wish::Chunk(chunk.to_vec().into())).collect();
        Self::open(run, [vec![Wish::Look(look)], chunks].concat()).await.expect("answers")
    }

    async fn clip(run: &Run, split: Split, index: u64) -> Self {
        let clip = SetClip { open: Some(run.open()), split: split.into(), index };
        Self::open(run, vec![Wish::Look(Look { clip: Some(clip), ..look() })]).await.expect("answers")
    }

    async fn next(&mut self) -> Result<Option<Reply>, Status> {
        let reply = tokio::time::timeout(LONG, self.replies.message()).await.expect("in time")?;
        Ok(reply.map(|reply| reply.reply.expect("says something")))
    }

    /// Everything, if all goes well.
    async fn all(mut self) -> (Facts, Vec<View>) {
        let Ok(Some(Reply::Facts(facts))) = self.next().await else { panic!("facts come first") };
        let mut views = Vec::new();
        while let Some(reply) = self.next().await.expect("no error") {
            let Reply::View(view) = reply else { panic!("expected a view, got {reply:?}") };
            assert_eq!(view.crc32c, crc32c::crc32c(&view.pixels_nthwc), "the checksum is of the pixels");
            views.push(view);
        }
        (facts, views)
    }
}

fn assert_shows(views: &[View], expected: &[ViewPixels]) {
    assert_eq!(views.len(), expected.len());
    for (view, expected) in views.iter().zip(expected) {
        assert_eq!((view.view, &view.source_frames), (expected.view, &expected.indices));
        assert!(view.pixels_nthwc == expected.pixels_nthwc, "the pixels of view {} differ", view.view);
    }
}

fn good(count: usize) -> Vec<File> {
    (0..count).map(Good).collect()
}

#[tokio::test]
async fn a_file_is_looked_at_without_any_data_set() {
    let run = Run::start("view-file", &good(1), &good(1)).await;
    let (facts, views) = Call::file(&run, look(), &videos()[3]).await.all().await;
    assert_eq!((facts.source_frames, facts.fps, facts.source_width, facts.source_height), (30, 25.0, 96, 64));
    assert_eq!((facts.views, facts.crops, facts.frames, facts.height, facts.width), (5, 3, 4, 24, 24));
    assert_shows(&views, &expected(3, Placement::Uniform(5)));

    let windows = Windows { window_seconds: 0.0, hop_seconds: 0.2 };
    let look = Look { placement: Some(WirePlacement::Windows(windows)), ..look() };
    let (_, views) = Call::file(&run, look, &videos()[3]).await.all().await;
    assert_shows(&views, &expected(3, Placement::Windows { window_seconds: None, hop_seconds: Some(0.2) }));
    run.leave().await;
}

#[tokio::test]
async fn a_clip_of_a_data_set_comes_with_key_and_label() {
    let run = Run::start("view-clip", &good(4), &good(2)).await;
    let (facts, views) = Call::clip(&run, Split::Train, 3).await.all().await;
    assert_eq!((facts.key.as_str(), facts.label), ("clip-003", 1));
    assert_shows(&views, &expected(3, Placement::Uniform(5)));
    run.leave().await;
}

#[tokio::test]
async fn a_video_that_cannot_be_shown_is_told_and_the_next_one_is_served() {
    let run = Run::start("view-broken", &good(1), &[WebPage, Missing, Good(2)]).await;
    for (index, why) in [(0, "web page"), (1, "gone.tar")] {
        let mut call = Call::clip(&run, Split::Val, index).await;
        let Ok(Some(Reply::Broken(broken))) = call.next().await else { panic!("it is broken") };
        assert_eq!(broken.key, format!("clip-00{index}"));
        assert!(broken.reason.contains(why), "{broken:?}");
        assert_eq!(call.next().await.expect("no error"), None);
    }
    for (file, why) in [(&videos()[0][..900], "cut off"), (b"", "empty"), (b"no video at all", "not a video")] {
        let mut call = Call::file(&run, look(), file).await;
        let Ok(Some(Reply::Broken(broken))) = call.next().await else { panic!("it is broken") };
        assert!(broken.reason.contains(why), "{broken:?}");
    }
    let (_, views) = Call::clip(&run, Split::Val, 2).await.all().await;
    assert_shows(&views, &expected(2, Placement::Uniform(5)));
    run.leave().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_the_setting_named() {
    let run = Run::start("view-refused", &good(1), &good(1)).await;
    let refused = async |wish: Wish| match Call::open(&run, vec![wish]).await {
        Err(status) => status,
        Ok(mut call) => call.next().await.expect_err("must be refused"),
    };
    let status = refused(Wish::Chunk(vec![1].into())).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "the first message must be Look"));
    let status = refused(Wish::Look(Look { crops: 2, ..look() })).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "crops is 2, but must be 1 or 3"));
    let status = refused(Wish::Look(Look { frames: 256, crop: 2000, short_side: 2000, ..look() })).await;
    assert!(status.message().contains("more than a message holds"), "{status}");
    let status = refused(Wish::Look(Look { placement: None, ..look() })).await;
    assert!(status.message().contains("names no placement"), "{status}");
    let beyond = SetClip { open: Some(run.open()), split: Split::Val.into(), index: 1 };
    let status = refused(Wish::Look(Look { clip: Some(beyond), ..look() })).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "clip 1 of 1: the first is 0"));
    run.leave().await;
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_the_decoder() {
    let run = Run::start("view-away", &good(1), &good(1)).await;
    for _ in 0..8 {
        let mut call = Call::file(&run, look(), &videos()[0]).await;
        assert!(matches!(call.next().await, Ok(Some(Reply::Facts(_)))));
    }
    // All eight are gone with their streams: one more is served, and a batch too.
    let (_, views) = Call::file(&run, look(), &videos()[1]).await.all().await;
    assert_eq!(views.len(), 5);
    assert_eq!(run.worker().await.batch(Split::Train, 0, 1).await.positions, [0]);
    run.leave().await;
}
