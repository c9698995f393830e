//! From a video to the pixels of all clips that a test takes of it, decoded once.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Layout, ViewConfig};
use crate::{Scaler, Video, VideoError};

/// One clip in time with all its squares.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewPixels {
    /// Its place among the clips.
    pub view: u32,
    /// Source frames that it shows, in order.
    pub indices: Vec<u32>,
    /// Squares, frames, rows, columns, channels.
    pub pixels_nthwc: Vec<u8>,
}

/// Hands out every clip in order, and stops when told to. Holds only the frames of clips that overlap: a video of hours
/// takes no more memory than one of seconds.
///
/// # Errors
/// If no frame of a clip can be decoded; clips before it have been handed out.
pub fn show(
    video: &Video,
    (config, layout): (&ViewConfig, &Layout),
    scaler: &mut Scaler,
    sink: &mut dyn FnMut(ViewPixels) -> ControlFlow<()>,
) -> Result<(), VideoError> {
    let wanted: BTreeSet<u32> = (0..layout.views()).flat_map(|view| layout.indices(view)).collect();
    let (size, squares) = config.squares(video.width(), video.height());
    let mut held = Held { width: size.0, crop: config.crop, squares, pictures: VecDeque::new() };
    let mut next = Due::of(layout, 0);
    video.stream(
        &wanted.into_iter().collect::<Vec<u32>>(),
        size,
        (scaler, &mut |index, picture| {
            held.pictures.push_back((index, picture));
            while let Some(due) = next.take_if(|due| due.last <= index) {
                let view = due.view;
                let pixels_nthwc = held.cut(&due.indices);
                if sink(ViewPixels { view, indices: due.indices, pixels_nthwc }).is_break() {
                    return ControlFlow::Break(());
                }
                next = Due::of(layout, view + 1);
            }
            if let Some(due) = &next {
                // Clips start one after the other, so nobody looks back behind the next one's first frame.
                while held.pictures.front().is_some_and(|(index, _)| *index < due.first) {
                    held.pictures.pop_front();
                }
            }
            ControlFlow::Continue(())
        }),
    )
}

/// The clip that comes next.
struct Due {
    view: u32,
    first: u32,
    last: u32,
    indices: Vec<u32>,
}

impl Due {
    fn of(layout: &Layout, view: u32) -> Option<Self> {
        if view >= layout.views() {
            return None;
        }
        let indices = layout.indices(view);
        let (first, last) = (indices.iter().min().copied()?, indices.iter().max().copied()?);
        Some(Self { view, first, last, indices })
    }
}

/// Pictures that a clip still needs, ascending.
struct Held {
    width: u32,
    crop: u32,
    squares: Vec<(u32, u32)>,
    pictures: VecDeque<(u32, Bytes)>,
}

impl Held {
    /// All squares of a clip.
    fn cut(&self, indices: &[u32]) -> Vec<u8> {
        let row_bytes = self.crop as usize * 3;
        let mut pixels = Vec::with_capacity(self.squares.len() * indices.len() * row_bytes * self.crop as usize);
        for (left, top) in &self.squares {
            for index in indices {
                let place = self.pictures.binary_search_by_key(index, |(index, _)| *index);
                let (_, picture) = &self.pictures[place.expect("a clip is cut once its last frame is there")];
                for row in *top..top + self.crop {
                    let start = (row * self.width + left) as usize * 3;
                    pixels.extend_from_slice(&picture[start..start + row_bytes]);
                }
            }
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Placement;
    use crate::decode::frame_bytes;
    use crate::footage::{greys, greys_mp4};

    fn config(placement: Placement) -> ViewConfig {
        ViewConfig { frames: 4, stride: 2, target_fps: None, placement, crops: 3, short_side: 32, crop: 32 }
    }

    fn shown(file: Bytes, config: &ViewConfig) -> Vec<ViewPixels> {
        let video = Video::open(file).expect("opens");
        let layout = config.lay(video.frame_count(), video.fps()).expect("fits");
        let mut views = Vec::new();
        let mut keep = |view| {
            views.push(view);
            ControlFlow::Continue(())
        };
        show(&video, (config, &layout), &mut Scaler::default(), &mut keep).expect("decodes");
        views
    }

    /// The grey level of every frame of the first square, as the number of the source frame.
    fn frames(view: &ViewPixels) -> Vec<u32> {
        let level = |picture: &[u8]| {
            let mean = picture.iter().map(|&byte| f64::from(byte)).sum::<f64>() / picture.len() as f64;
            (mean * 219.0 / 255.0 / 6.0).round() as u32
        };
        view.pixels_nthwc[..view.pixels_nthwc.len() / 3].chunks(frame_bytes(32, 32)).map(level).collect()
    }

    #[test]
    fn every_clip_shows_the_frames_of_its_place() {
        for placement in [
            Placement::Uniform(5),
            Placement::Windows { window_seconds: None, hop_seconds: Some(0.12) },
            Placement::Windows { window_seconds: Some(9.0), hop_seconds: None },
        ] {
            let config = config(placement);
            let views = shown(greys_mp4(), &config);
            let layout = config.lay(36, Some(25.0)).expect("fits");
            assert_eq!(views.len(), layout.views() as usize, "{placement:?}");
            for (number, view) in (0..).zip(&views) {
                assert_eq!((view.view, &view.indices), (number, &layout.indices(number)), "{placement:?}");
                assert_eq!(frames(view), view.indices, "{placement:?}");
                assert_eq!(view.pixels_nthwc.len() as u64, config.view_bytes());
            }
        }
    }

    #[test]
    fn a_frame_that_is_lost_is_shown_as_the_one_before() {
        let mut bytes = greys(&["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"], "a.mkv").to_vec();
        let starts: Vec<usize> = (0..bytes.len() - 2).filter(|&i| bytes[i..i + 3] == [0xff, 0xd8, 0xff]).collect();
        for lost in [0, 10, 35] {
            let end = starts.get(lost + 1).map_or(starts[35] + 300, |next| next - 16);
            bytes[starts[lost]..end].fill(0);
        }
        let config = ViewConfig { frames: 36, stride: 1, ..config(Placement::Uniform(1)) };
        let views = shown(bytes.into(), &config);
        let expected: Vec<u32> = [1, 1].into_iter().chain(2..10).chain([9]).chain(11..35).chain([34]).collect();
        assert_eq!(frames(&views[0]), expected);
    }

    #[test]
    fn the_squares_are_the_ends_and_the_middle() {
        // Red grows to the right, blue downwards.
        let wide = crate::footage::make(
            &["-f", "lavfi", "-i", "color=black:s=128x64:d=0.2,format=rgb24,geq=r=X:g=0:b=Y*2", "-c:v", "ffv1"],
            "wide.mkv",
        );
        let config = ViewConfig { frames: 1, short_side: 64, ..config(Placement::Uniform(1)) };
        let view = &shown(wide, &config)[0];
        let corners: Vec<[u8; 2]> =
            view.pixels_nthwc.chunks(frame_bytes(32, 32)).map(|square| [square[0], square[2]]).collect();
        assert_eq!(corners, [[0, 32], [48, 32], [96, 32]]);
    }

    #[test]
    fn it_stops_when_told_to() {
        let video = Video::open(greys_mp4()).expect("opens");
        let config = config(Placement::Uniform(8));
        let layout = config.lay(36, None).expect("fits");
        let mut count = 0;
        let mut stop = |_| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        show(&video, (&config, &layout), &mut Scaler::default(), &mut stop).expect("stops");
        assert_eq!(count, 3);
    }
}
