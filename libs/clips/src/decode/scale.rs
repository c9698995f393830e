//! From a decoded picture to RGB24 of the wanted size.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{self as ffmpeg, ffi, frame};

use super::upright::Upright;
use super::{Frames, frame_bytes};
use crate::VideoError;

/// Scales and converts pictures; keeps its tables from one clip to the next. One a thread.
#[derive(Default)]
pub struct Scaler {
    context: Option<(Context, Colours)>,
    rgb: Option<frame::Video>,
}

/// Bilinear with the filter widened when shrinking (so nothing aliases); the exact-arithmetic paths, so that all
/// processors give the same bytes.
const FLAGS: Flags = Flags::BILINEAR.union(Flags::ACCURATE_RND).union(Flags::BITEXACT);

/// What the numbers of a picture mean, as far as it says so: FFmpeg's `AVColorSpace` and `AVColorRange`, but as plain
/// numbers. Decoders hand on what stands in the file, whether the enumeration has such a value or not.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Colours {
    space: u32,
    range: u32,
}

/// Matrices that the scaler has.
const KNOWN: [ffi::AVColorSpace; 6] = [
    ffi::AVColorSpace::AVCOL_SPC_BT709,
    ffi::AVColorSpace::AVCOL_SPC_FCC,
    ffi::AVColorSpace::AVCOL_SPC_BT470BG,
    ffi::AVColorSpace::AVCOL_SPC_SMPTE170M,
    ffi::AVColorSpace::AVCOL_SPC_SMPTE240M,
    ffi::AVColorSpace::AVCOL_SPC_BT2020_NCL,
];

impl Colours {
    fn of(picture: &frame::Video) -> Self {
        // SAFETY: the frame outlives the reads; both fields are as large as a `u32`, which any bits are one of.
        unsafe {
            let frame = picture.as_ptr();
            let space = (&raw const (*frame).colorspace).cast::<u32>().read();
            Self { space, range: (&raw const (*frame).color_range).cast::<u32>().read() }
        }
    }

    /// Tells the scaler. What a picture leaves open stays at the scaler's own choice: BT.601, and the range that the
    /// pixel format has by its name.
    fn apply(self, context: &mut Context) {
        let known = KNOWN.into_iter().find(|known| *known as u32 == self.space);
        let is_full = self.range == ffi::AVColorRange::AVCOL_RANGE_JPEG as u32;
        if known.is_none() && !is_full {
            return;
        }
        let space = known.map_or(ffi::SWS_CS_DEFAULT, |known| known as i32);
        let one = 1 << 16;
        // SAFETY: the context is valid and ours alone; the tables are constants of the library, which it copies.
        unsafe {
            let table = ffi::sws_getCoefficients(space);
            let full = i32::from(is_full);
            // Refused only where neither side has such colours, as between two kinds of RGB.
            ffi::sws_setColorspaceDetails(context.as_mut_ptr(), table, full, table, 1, 0, one, one);
        }
    }
}

impl Scaler {
    /// Appends `picture`, upright and scaled to the size of `frames`.
    pub(super) fn append(
        &mut self,
        picture: &frame::Video,
        upright: Upright,
        frames: &mut Frames,
    ) -> Result<(), VideoError> {
        let size = (frames.width, frames.height);
        self.run(picture, upright.size(size)).map_err(|error| VideoError::Scale {
            width: picture.width(),
            height: picture.height(),
            format: format!("{:?}", picture.format()),
            reason: error.to_string(),
        })?;
        let rgb = self.rgb.as_ref().expect("a run leaves a picture");
        frames.pixels.reserve(frame_bytes(size.0, size.1));
        upright.append((rgb.data(0), rgb.stride(0)), size, &mut frames.pixels);
        Ok(())
    }

    fn run(&mut self, picture: &frame::Video, (width, height): (u32, u32)) -> Result<(), ffmpeg::Error> {
        let colours = Colours::of(picture);
        let fits = |(context, known): &(Context, Colours)| {
            let (from, to) = (context.input(), context.output());
            (from.format, from.width, from.height) == (picture.format(), picture.width(), picture.height())
                && (to.width, to.height) == (width, height)
                && *known == colours
        };
        if !self.context.as_ref().is_some_and(fits) {
            let (from_width, from_height) = (picture.width(), picture.height());
            let mut context =
                Context::get(picture.format(), from_width, from_height, Pixel::RGB24, width, height, FLAGS)?;
            colours.apply(&mut context);
            self.context = Some((context, colours));
            self.rgb = Some(frame::Video::new(Pixel::RGB24, width, height));
        }
        let (Some((context, _)), Some(rgb)) = (self.context.as_mut(), self.rgb.as_mut()) else {
            return Err(ffmpeg::Error::Bug);
        };
        context.run(picture, rgb)
    }
}
