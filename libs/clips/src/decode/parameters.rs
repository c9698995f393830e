//! What a decoder must be told before its first packet, in a form that outlives its container.
//!
//! Codec and pixel format go by name: their numbers differ from one FFmpeg to the next. The others are numbers of the
//! codecs' own standards.

use std::ffi::{CStr, CString, c_int};
use std::ptr;

use ffmpeg_next::{codec, ffi};

use super::compact::{self, Reader};

/// How many numbers are kept. What is left out concerns sound, or people.
const NUMBERS: usize = 16;
/// How many choices the last of them have, from the field order on.
const CHOICES: [(usize, c_int); 6] = [(9, 6), (10, 3), (11, 23), (12, 19), (13, 15), (14, 7)];
/// Longest header of a codec that is believed.
const MAX_EXTRADATA_BYTES: usize = 1 << 20;

/// Appends the parameters.
pub(super) fn put(out: &mut Vec<u8>, parameters: &codec::Parameters) {
    compact::put_bytes(out, parameters.id().name().as_bytes());
    compact::put_bytes(out, pixel_format(parameters).as_bytes());
    // SAFETY: the pointers are valid as long as `parameters`, which is only read.
    let (places, extradata) = (unsafe { places(parameters.as_ptr().cast_mut()) }, extradata(parameters));
    for place in places {
        // SAFETY: as above; each is a number of this size.
        compact::put_signed(out, i64::from(unsafe { place.read() }));
    }
    compact::put_bytes(out, extradata);
}

/// Reads parameters; none if they are not such as [`put`] writes.
pub(super) fn take(from: &mut Reader) -> Option<codec::Parameters> {
    let (codec, format) = (CString::new(from.bytes()?).ok()?, CString::new(from.bytes()?).ok()?);
    let mut numbers = [0; NUMBERS];
    for number in &mut numbers {
        *number = c_int::try_from(from.signed()?).ok()?;
    }
    let extradata = from.bytes().filter(|extradata| extradata.len() <= MAX_EXTRADATA_BYTES)?;
    if CHOICES.iter().any(|&(number, choices)| !(0..choices).contains(&numbers[number])) {
        return None;
    }
    let mut parameters = codec::Parameters::new();
    // SAFETY: `parameters` are new and nobody else's. FFmpeg finds constants by name, or nothing. Choices are within
    // their lists. What is allocated belongs to the parameters from then on and is padded as FFmpeg wants it.
    unsafe {
        let (to, codec) = (parameters.as_mut_ptr(), ffi::avcodec_descriptor_get_by_name(codec.as_ptr()));
        if to.is_null() || codec.is_null() {
            return None;
        }
        (*to).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        (*to).codec_id = (*codec).id;
        (*to).format = ffi::av_get_pix_fmt(format.as_ptr()) as c_int;
        for (place, number) in places(to).into_iter().zip(numbers) {
            place.write(number);
        }
        if !extradata.is_empty() {
            let copy = ffi::av_mallocz(extradata.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize).cast::<u8>();
            if copy.is_null() {
                return None;
            }
            ptr::copy_nonoverlapping(extradata.as_ptr(), copy, extradata.len());
            (*to).extradata = copy;
            (*to).extradata_size = extradata.len() as c_int;
        }
    }
    Some(parameters)
}

/// Name of the format of its pixels, as far as the container knows; empty if it does not.
pub(super) fn pixel_format(parameters: &codec::Parameters) -> String {
    let Ok(context) = codec::Context::from_parameters(parameters.clone()) else { return String::new() };
    // SAFETY: the pointer is valid as long as `context`; names of formats are constants.
    unsafe {
        let name = ffi::av_get_pix_fmt_name((*context.as_ptr()).pix_fmt);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Where the numbers are, in the order in which they are written. Enumerations are numbers of the same size.
unsafe fn places(of: *mut ffi::AVCodecParameters) -> [*mut c_int; NUMBERS] {
    // SAFETY: the caller's pointer is valid; no reference is made.
    unsafe {
        [
            (&raw mut (*of).codec_tag).cast(),
            &raw mut (*of).bits_per_coded_sample,
            &raw mut (*of).bits_per_raw_sample,
            &raw mut (*of).profile,
            &raw mut (*of).level,
            &raw mut (*of).width,
            &raw mut (*of).height,
            &raw mut (*of).sample_aspect_ratio.num,
            &raw mut (*of).sample_aspect_ratio.den,
            (&raw mut (*of).field_order).cast(),
            (&raw mut (*of).color_range).cast(),
            (&raw mut (*of).color_primaries).cast(),
            (&raw mut (*of).color_trc).cast(),
            (&raw mut (*of).color_space).cast(),
            (&raw mut (*of).chroma_location).cast(),
            &raw mut (*of).video_delay,
        ]
    }
}

/// The codec's header.
pub(super) fn extradata(parameters: &codec::Parameters) -> &[u8] {
    // SAFETY: the pointer is valid as long as `parameters`; FFmpeg keeps length and pointer together.
    unsafe {
        let (start, length) = ((*parameters.as_ptr()).extradata, (*parameters.as_ptr()).extradata_size);
        if start.is_null() || length <= 0 { &[] } else { std::slice::from_raw_parts(start, length as usize) }
    }
}
