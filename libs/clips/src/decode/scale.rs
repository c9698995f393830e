//! From a decoded picture to RGB24 of the wanted size.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{self as ffmpeg, frame};

use super::{Frames, frame_bytes};
use crate::VideoError;

/// Scales and converts pictures; keeps its tables from one clip to the next. One a thread.
#[derive(Default)]
pub struct Scaler {
    context: Option<Context>,
    rgb: Option<frame::Video>,
}

/// Bilinear with the filter widened when shrinking (so nothing aliases); the exact-arithmetic paths, so that all
/// processors give the same bytes.
const FLAGS: Flags = Flags::BILINEAR.union(Flags::ACCURATE_RND).union(Flags::BITEXACT);

impl Scaler {
    /// Appends `picture`, scaled to the size of `frames`.
    pub(super) fn append(&mut self, picture: &frame::Video, frames: &mut Frames) -> Result<(), VideoError> {
        let (width, height) = (frames.width, frames.height);
        self.run(picture, width, height).map_err(|error| VideoError::Scale {
            width: picture.width(),
            height: picture.height(),
            format: format!("{:?}", picture.format()),
            reason: error.to_string(),
        })?;
        let rgb = self.rgb.as_ref().expect("a run leaves a picture");
        let (data, stride) = (rgb.data(0), rgb.stride(0));
        let row_bytes = width as usize * 3;
        frames.pixels.reserve(frame_bytes(width, height));
        for row in data.chunks(stride).take(height as usize) {
            frames.pixels.extend_from_slice(&row[..row_bytes]);
        }
        Ok(())
    }

    fn run(&mut self, picture: &frame::Video, width: u32, height: u32) -> Result<(), ffmpeg::Error> {
        let fits = |context: &Context| {
            let (from, to) = (context.input(), context.output());
            (from.format, from.width, from.height) == (picture.format(), picture.width(), picture.height())
                && (to.width, to.height) == (width, height)
        };
        if !self.context.as_ref().is_some_and(fits) {
            let (from_width, from_height) = (picture.width(), picture.height());
            let context = Context::get(picture.format(), from_width, from_height, Pixel::RGB24, width, height, FLAGS)?;
            self.context = Some(context);
            self.rgb = Some(frame::Video::new(Pixel::RGB24, width, height));
        }
        let (Some(context), Some(rgb)) = (self.context.as_mut(), self.rgb.as_mut()) else {
            return Err(ffmpeg::Error::Bug);
        };
        context.run(picture, rgb)
    }
}
