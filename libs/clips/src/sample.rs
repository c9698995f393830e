//! Which frames of a source a clip takes.
//!
//! A clip of `frames` frames at `stride` spans `(frames - 1) * stride + 1` source frames. A source that is shorter is
//! **looped**: frame `i` stands for `i % count`, so that motion goes on instead of freezing (a frozen end would look
//! like a still clip to a network that skips redundant frames).

use crate::DataConfig;

/// Picks a start from a range, given how many starts there are.
pub type PickStart<'a> = &'a dyn Fn(u32) -> u32;

/// Source frames of a clip, in the order shown. `pick` chooses among the possible starts.
///
/// # Panics
/// If `source_frames` is 0: a video without frames is refused when it is opened.
pub fn indices(config: &DataConfig, source_frames: u32, pick: PickStart) -> Vec<u32> {
    assert!(source_frames > 0, "a source has frames");
    let span_frames = (config.frames - 1) * config.stride + 1;
    let starts = source_frames.saturating_sub(span_frames) + 1;
    let start = pick(starts).min(starts - 1);
    (0..config.frames).map(|t| (start + t * config.stride) % source_frames).collect()
}

/// The start that shows the middle of the source.
pub fn centre(starts: u32) -> u32 {
    (starts - 1) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::footage::config;

    #[test]
    fn the_centre_clip_leaves_as_much_before_as_after() {
        assert_eq!(indices(&config(8, 4), 36, &centre), [3, 7, 11, 15, 19, 23, 27, 31]);
        assert_eq!(indices(&config(1, 9), 5, &centre), [2]);
    }

    #[test]
    fn a_short_source_is_looped() {
        assert_eq!(indices(&config(8, 4), 10, &centre), [0, 4, 8, 2, 6, 0, 4, 8]);
        assert_eq!(indices(&config(4, 2), 1, &centre), [0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_index_exists_and_every_start_is_reached(frames in 1u32..20, stride in 1u32..9, source in 1u32..400) {
            let config = config(frames, stride);
            let last = indices(&config, source, &|starts| starts - 1);
            prop_assert!(last.iter().all(|&i| i < source));
            let span = (frames - 1) * stride + 1;
            if source >= span {
                prop_assert_eq!(*last.last().expect("frames >= 1"), source - 1);
                prop_assert!(last.windows(2).all(|pair| pair[1] - pair[0] == stride));
            }
        }
    }
}
