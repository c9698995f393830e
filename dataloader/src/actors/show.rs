//! On the thread of a decoder: one video, all its views, sent as they come.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use clips::{ViewConfig, ViewPixels};
use proto::loader::views_reply::Reply;
use proto::loader::{Broken, Facts, View, ViewsReply};
use proto::status::Refusal;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use crate::decoder::{Decoder, wire};

/// A reader that takes nothing for so long gives up its thread to others.
const READ_DEADLINE: Duration = Duration::from_secs(600);

/// Where the views of one video go. Bounded: a slow reader stops the decoder.
pub type ViewOutbox = mpsc::Sender<Result<ViewsReply, Status>>;

/// A video to be shown.
pub struct Showing {
    /// Its content.
    pub file: Bytes,
    /// How it is looked at.
    pub config: ViewConfig,
    /// Key and label, if it is a data set's clip.
    pub entry: (String, u32),
    /// Where its views go.
    pub outbox: ViewOutbox,
    /// Where this thread waits for room.
    pub runtime: Handle,
    /// Held until everything is sent.
    pub permit: OwnedSemaphorePermit,
}

impl Showing {
    /// Sends facts and views; a video that can't be decoded is told as such.
    pub fn show(self, decoder: &mut Decoder) {
        if let Err(reason) = self.try_show(decoder) {
            let key = self.entry.0.clone();
            // Whoever asked may have gone.
            let _gone = self.send(Reply::Broken(Broken { key, reason }));
        }
    }

    fn try_show(&self, decoder: &mut Decoder) -> Result<(), String> {
        let mut refused = Ok(());
        let mut meet = |video: wire::Facts| match self.facts(video) {
            Ok(facts) => self.send(Reply::Facts(facts)),
            Err(why) => {
                refused = Err(why);
                ControlFlow::Break(())
            }
        };
        let mut hand = |view| self.send(Reply::View(message(view)));
        decoder.views(&self.file, &self.config, (&mut meet, &mut hand)).map_err(|fault| fault.to_string())?;
        refused
    }

    fn facts(&self, video: wire::Facts) -> Result<Facts, String> {
        let layout = self.config.lay(video.source_frames, video.fps).map_err(|error| error.to_string())?;
        Ok(Facts {
            key: self.entry.0.clone(),
            label: self.entry.1,
            source_frames: video.source_frames,
            fps: video.fps.unwrap_or_default(),
            source_width: video.width,
            source_height: video.height,
            views: layout.views(),
            crops: self.config.crops,
            frames: self.config.frames,
            height: self.config.crop,
            width: self.config.crop,
        })
    }

    /// Waits for room; breaks if nobody reads any more.
    fn send(&self, reply: Reply) -> ControlFlow<()> {
        let reply = Ok(ViewsReply { reply: Some(reply) });
        // Inside of `async`: the clock is the runtime's.
        let sent = async { tokio::time::timeout(READ_DEADLINE, self.outbox.send(reply)).await };
        let sent = self.runtime.block_on(sent);
        match sent {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(_)) => ControlFlow::Break(()),
            Err(_) => {
                let late = Refusal::Late(format!("the views were not read for {READ_DEADLINE:?}"));
                let outbox = self.outbox.clone();
                // Told when the reader comes back; the thread does not wait for that.
                self.runtime.spawn(async move { outbox.send(Err(late.into())).await });
                ControlFlow::Break(())
            }
        }
    }
}

fn message(view: ViewPixels) -> View {
    let crc32c = crc32c::crc32c(&view.pixels_nthwc);
    View { view: view.view, source_frames: view.indices, pixels_nthwc: view.pixels_nthwc.into(), crc32c }
}
