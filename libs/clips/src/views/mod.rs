//! The clips that a test takes of one video: where they lie in time, and which squares of the frames they show.
//!
//! Numbers only; [`show()`] makes the pixels. [`Placement::Uniform`] and the squares follow PySlowFast, by whose
//! rules published figures are made, down to the rounding of its 32-bit floats.

mod show;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
pub use show::{ViewPixels, show};

/// How a video is looked at. Check it with [`ViewConfig::validate`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ViewConfig {
    /// Frames of a clip.
    pub frames: u32,
    /// Distance between two of them, in frames of the source (or of `target_fps`).
    pub stride: u32,
    /// Counts the stride in frames of this rate instead of the video's own.
    pub target_fps: Option<f64>,
    /// Where the clips lie in time.
    pub placement: Placement,
    /// Squares of each: 1 (the centre) or 3 (both ends of the long side, and the centre).
    pub crops: u32,
    /// Short side that a frame is scaled to, pixels.
    pub short_side: u32,
    /// Side of the squares, pixels.
    pub crop: u32,
}

/// Where the clips of a video lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Placement {
    /// This many, evenly: clip `k` of `n` starts at `k / n` of what the video is longer than a clip, so that one clip
    /// alone is the video's beginning. A video that is too short holds its last frame.
    Uniform(u32),
    /// From the first frame to the last, as the network was trained: frames a stride apart, a short video looped.
    Windows {
        /// Stretch of video that a clip is spread over; a clip's own length if none is given.
        window_seconds: Option<f64>,
        /// Distance from one start to the next; that stretch if none is given, so that the windows lie side by side.
        hop_seconds: Option<f64>,
    },
}

/// Why a video can't be looked at like that.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ViewError {
    /// A number lies outside of its range.
    #[error("{field} is {value}, but must be {bound}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What would do.
        bound: String,
    },
    /// A length in seconds needs a rate.
    #[error("the video does not say how many frames it has a second, so {0} can't be kept: leave it out")]
    NoRate(&'static str),
}

/// Most clips that [`Placement::Uniform`] takes of a video.
const MAX_VIEWS: u32 = 1000;

impl ViewConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`ViewError::Setting`] for the first that is out of its range.
    pub fn validate(&self) -> Result<(), ViewError> {
        let whole = |field, value: u32, range: RangeInclusive<u32>| {
            let bound = format!("from {} to {}", range.start(), range.end());
            check(field, value.into(), (range.contains(&value), bound))
        };
        let seconds = |field, value: Option<f64>| {
            let value = value.unwrap_or(1.0);
            check(field, value, (value.is_finite() && value > 0.0, "above 0".to_owned()))
        };
        whole("frames", self.frames, 1..=256)?;
        whole("stride", self.stride, 1..=256)?;
        whole("short_side", self.short_side, 8..=2048)?;
        whole("crop", self.crop, 8..=self.short_side)?;
        check("crops", self.crops.into(), ([1, 3].contains(&self.crops), "1 or 3".to_owned()))?;
        seconds("target_fps", self.target_fps)?;
        match self.placement {
            Placement::Uniform(views) => whole("views", views, 1..=MAX_VIEWS),
            Placement::Windows { window_seconds, hop_seconds } => {
                seconds("window", window_seconds)?;
                seconds("hop", hop_seconds)
            }
        }
    }

    /// Places the clips in a video of `source_frames` frames at `fps`.
    ///
    /// # Errors
    /// [`ViewError::NoRate`] if a setting needs `fps` and there is none.
    ///
    /// # Panics
    /// If `source_frames` is 0: a video without frames is refused when it is opened.
    pub fn lay(&self, source_frames: u32, fps: Option<f64>) -> Result<Layout, ViewError> {
        assert!(source_frames > 0, "a source has frames");
        let fps = |what| fps.ok_or(ViewError::NoRate(what));
        // In this order, because floats are rounded at each step.
        let own = f64::from(self.stride) * f64::from(self.frames);
        let own = self.target_fps.map_or(Ok(own), |target| Ok(own / target * fps("target_fps")?))?;
        let (size, starts) = match self.placement {
            Placement::Uniform(views) => (own.max(1.0), Starts::Share(views)),
            Placement::Windows { window_seconds, hop_seconds } => {
                let size = window_seconds.map_or(Ok(own), |seconds| Ok(seconds * fps("window")?))?.max(1.0);
                let hop = hop_seconds.map_or(Ok(size), |seconds| Ok(seconds * fps("hop")?))?.max(1.0);
                (size, Starts::Every(hop))
            }
        };
        Ok(Layout { frames: self.frames, source_frames, size, starts })
    }

    /// The size that frames are scaled to, and the upper left corner (left, top) of each square in it.
    pub fn squares(&self, width: u32, height: u32) -> ((u32, u32), Vec<(u32, u32)>) {
        let long = |long: u32, short: u32| {
            // Rounded down, in floats, as the protocol has it.
            let exact = (f64::from(long) / f64::from(short) * f64::from(self.short_side)).floor();
            (exact as u32).max(self.short_side)
        };
        let (width, height) = match width < height {
            true => (self.short_side, long(height, width)),
            false => (long(width, height), self.short_side),
        };
        let (right, bottom) = (width - self.crop, height - self.crop);
        let centre = (right.div_ceil(2), bottom.div_ceil(2));
        let squares = match self.crops {
            1 => vec![centre],
            _ if height > width => vec![(centre.0, 0), centre, (centre.0, bottom)],
            _ => vec![(0, centre.1), centre, (right, centre.1)],
        };
        ((width, height), squares)
    }

    /// Bytes of one clip with all its squares.
    pub fn view_bytes(&self) -> u64 {
        [self.crops, self.frames, self.crop, self.crop, 3].into_iter().map(u64::from).product()
    }
}

fn check(field: &'static str, value: f64, (is_good, bound): (bool, String)) -> Result<(), ViewError> {
    if is_good { Ok(()) } else { Err(ViewError::Setting { field, value, bound }) }
}

/// The clips of one video, placed in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    frames: u32,
    source_frames: u32,
    /// Frames of the source that a clip spans; a fraction where rates are converted.
    size: f64,
    starts: Starts,
}

/// Where clips start.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Starts {
    /// So many clips share what the video is longer than one.
    Share(u32),
    /// One every so many frames, and one that ends where the video ends.
    Every(f64),
}

impl Layout {
    /// How many clips there are in time; each has all its squares.
    pub fn views(&self) -> u32 {
        match self.starts {
            Starts::Share(views) => views,
            // Rounded up: what the whole hops leave of the video's end has a clip of its own.
            Starts::Every(hop) => (self.spare() / hop).ceil() as u32 + 1,
        }
    }

    /// The source frames of clip `view`, in order.
    pub fn indices(&self, view: u32) -> Vec<u32> {
        let last = self.source_frames - 1;
        match self.starts {
            Starts::Share(views) => {
                let start = self.spare() * f64::from(view) / f64::from(views);
                let index = |place: f32| (place.max(0.0) as u32).min(last);
                linspace(start as f32, (start + self.size - 1.0) as f32, self.frames).into_iter().map(index).collect()
            }
            Starts::Every(hop) => {
                let start = (hop * f64::from(view)).min(self.spare());
                let step = self.size / f64::from(self.frames);
                (0..self.frames).map(|t| (start + f64::from(t) * step) as u32 % self.source_frames).collect()
            }
        }
    }

    /// How much longer the video is than one clip, in frames.
    fn spare(&self) -> f64 {
        (f64::from(self.source_frames) - self.size).max(0.0)
    }
}

/// `steps` numbers from `start` to `end`, counted from the nearer end, in 32-bit floats: what `torch.linspace` gives.
fn linspace(start: f32, end: f32, steps: u32) -> Vec<f32> {
    if steps == 1 {
        return vec![start];
    }
    let step = (end - start) / (steps - 1) as f32;
    let place = |i: u32| match i < steps / 2 {
        true => start + step * i as f32,
        false => end - step * (steps - 1 - i) as f32,
    };
    (0..steps).map(place).collect()
}

#[cfg(test)]
mod tests;
