//! Videos and clips for commands that work outside of a run.

mod own;
mod views;

use proto::loader::Look;
use proto::loader::look::Placement;

use crate::config::Sampling;
use crate::device::network::Weights;

pub use own::OwnLoader;
pub use views::{Fault, Looker, Shown, VideoViews};

/// How a video is looked at: as the weights' test clips are cut, with what the command line changes of it.
///
/// Where three squares are asked for the short side is scaled to theirs, as published figures are made.
pub fn look(weights: &Weights, sampling: &Sampling, placement: Placement) -> Look {
    let view = weights.card.view;
    let crop = sampling.crop.unwrap_or(view.crop);
    Look {
        clip: None,
        frames: view.frames,
        stride: view.stride,
        target_fps: sampling.target_fps.unwrap_or_default(),
        placement: Some(placement),
        crops: sampling.crops,
        short_side: if sampling.crops == 1 { view.short_side.max(crop) } else { crop },
        crop,
    }
}
