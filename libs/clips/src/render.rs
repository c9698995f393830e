//! A clip from its file to its pixels in one call.

use bytes::Bytes;

use crate::{DataConfig, Frames, Scaler, Video, VideoError, View};

/// The views of a clip that a position asks for, in the order in which a batch shows them: those of the plan's seed in
/// training, the centre in validation.
pub fn wanted(config: &DataConfig, augment_seed: Option<u64>) -> Vec<View> {
    match augment_seed {
        Some(seed) => (0..config.views).map(|view| View::train(config, View::seed_of(seed, view))).collect(),
        None => vec![View::val(config)],
    }
}

/// The source frames that views show, one view after the other.
pub fn indices(config: &DataConfig, views: &[View], source_frames: u32) -> Vec<u32> {
    views.iter().flat_map(|view| view.indices(config, source_frames)).collect()
}

/// The pixels of views, one after the other, each as thwc bytes.
///
/// # Panics
/// As [`View::write`].
pub fn write(config: &DataConfig, views: &[View], frames: &Frames) -> Vec<u8> {
    let mut pixels_vthwc = vec![0; views.len() * config.clip_bytes()];
    for (view, pixels) in views.iter().zip(pixels_vthwc.chunks_exact_mut(config.clip_bytes())) {
        view.write(config, frames, pixels);
    }
    pixels_vthwc
}

/// Renders the views of a clip, one after the other, each as thwc bytes. Decodes only the frames that they show, and
/// each once.
///
/// `augment_seed` is the plan's for the position in training, and none in validation.
pub fn render(
    config: &DataConfig,
    file: Bytes,
    augment_seed: Option<u64>,
    scaler: &mut Scaler,
) -> Result<Vec<u8>, VideoError> {
    let views = wanted(config, augment_seed);
    let video = Video::open(file)?;
    let indices = indices(config, &views, video.frame_count());
    let frames = video.decode(&indices, config.decoded_short_side(augment_seed.is_some()), scaler)?;
    Ok(write(config, &views, &frames))
}
