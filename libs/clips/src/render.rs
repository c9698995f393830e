//! A clip from its file to its pixels in one call.

use bytes::Bytes;

use crate::{DataConfig, Scaler, Video, VideoError, View};

/// The view of a clip that a position asks for: with the plan's seed in training, the centre in validation.
pub fn wanted(config: &DataConfig, augment_seed: Option<u64>) -> View {
    augment_seed.map_or_else(|| View::val(config), |seed| View::train(config, seed))
}

/// Renders a clip as thwc bytes. Decodes only the frames that the view shows.
///
/// `augment_seed` is the plan's for the position in training, and none in validation.
pub fn render(
    config: &DataConfig,
    file: Bytes,
    augment_seed: Option<u64>,
    scaler: &mut Scaler,
) -> Result<Vec<u8>, VideoError> {
    let view = wanted(config, augment_seed);
    let video = Video::open(file)?;
    let indices = view.indices(config, video.frame_count());
    let frames = video.decode(&indices, config.decoded_short_side(augment_seed.is_some()), scaler)?;
    let mut pixels = vec![0; config.clip_bytes()];
    view.write(config, &frames, &mut pixels);
    Ok(pixels)
}
