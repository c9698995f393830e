//! One member's stream, as `coordinator/src/actors/session.rs` keeps it.

use cluster::{event::Loss, limits::Limits};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::port::{Down, Link, RunMsg, Up};

/// Passes on what the member says, answers its beats, and says how it was lost.
pub async fn attend(link: Link, number: u64, run: mpsc::Sender<RunMsg>, limits: Limits) {
    let (mut heard, mut look) = (Instant::now(), Instant::now() + limits.beat);
    let loss = loop {
        tokio::select! {
            biased;
            message = link.up.recv() => match message {
                // The connection's own keep-alive noticed a long silence just before us.
                None if heard.elapsed() >= limits.patience * 3 / 4 => break Loss::Silent,
                None => break Loss::Broken,
                Some(Up::Beat) => {
                    heard = Instant::now();
                    if !link.down.send(Down::Beat) {
                        break Loss::Broken;
                    }
                }
                Some(Up::Event(event)) => {
                    heard = Instant::now();
                    if run.try_send(RunMsg::Happened(event)).is_err() {
                        return;
                    }
                }
            },
            () = sleep_until(look) => {
                if heard.elapsed() >= limits.patience {
                    break Loss::Silent;
                }
                look = Instant::now() + limits.beat;
            }
        }
    };
    link.close();
    // Without a run there is nobody left to tell.
    let _ = run.try_send(RunMsg::SessionOver(number, loss));
}
