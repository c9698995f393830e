//! Which frame is on screen when.
//!
//! Views count in equal steps of time: as many as the video has frames, from its first to its last. Where all frames last
//! equally long (most files), step `i` shows frame `i`. Where they don't (phones, screen recordings), a step shows the
//! frame that a player shows then, so that a clip's motion has the speed that was filmed; a frame that lasts long is
//! shown in several steps, one that lasts shorter than a step may be passed over.

/// The frame of each step, by the frames' timestamps (ascending, all different); none if step `i` shows frame `i`.
pub(super) fn frames_of_steps(stamps: &[i64]) -> Option<Vec<u32>> {
    let (&first, &last) = (stamps.first()?, stamps.last()?);
    let span = i128::from(last) - i128::from(first);
    let gap = |pair: &[i64]| i128::from(pair[1]) - i128::from(pair[0]);
    // A frame that lasts longer than all others together is a clock that jumped, not a long frame.
    if stamps.windows(2).map(gap).max()? * 2 > span {
        return None;
    }
    let steps = stamps.len() as i128 - 1;
    let mut frame = 0;
    let mut at = |step: i128| {
        // In the middle of the step: timestamps are rounded to the container's ticks, to either side.
        let middle = (2 * step + 1) * span;
        let is_on = |stamp: &i64| (i128::from(*stamp) - i128::from(first)) * 2 * steps <= middle;
        while stamps.get(frame + 1).is_some_and(is_on) {
            frame += 1;
        }
        frame as u32
    };
    let frames: Vec<u32> = (0..=steps).map(&mut at).collect();
    let is_even = frames.iter().zip(0..).all(|(frame, step)| *frame == step);
    (!is_even).then_some(frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_even_rate_is_left_alone_whatever_the_rounding() {
        for ticks_per_frame in [1.0, 1001.0 / 30.0, 512.0, 100.0 / 3.0] {
            let stamps: Vec<i64> = (0..500).map(|i| (f64::from(i) * ticks_per_frame).round() as i64 - 77).collect();
            assert_eq!(frames_of_steps(&stamps), None, "{ticks_per_frame} ticks a frame");
        }
        assert_eq!(frames_of_steps(&[5]), None);
        assert_eq!(frames_of_steps(&[5, 9]), None);
    }

    #[test]
    fn a_long_frame_is_shown_for_as_long_as_it_lasts() {
        // Ten frames, one every tick, then five that last four ticks each: two ticks a step.
        let stamps: Vec<i64> = (0..10).chain((1..=5).map(|i| 9 + 4 * i)).collect();
        let frames = frames_of_steps(&stamps).expect("uneven");
        assert_eq!(frames, [1, 3, 5, 7, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14]);
    }

    #[test]
    fn a_clock_that_jumps_is_no_long_frame() {
        let stamps: Vec<i64> = (0..50).chain(1_000_000..1_000_050).collect();
        assert_eq!(frames_of_steps(&stamps), None);
    }

    proptest! {
        #[test]
        fn steps_ascend_and_exist(gaps in proptest::collection::vec(1i64..1000, 1..200), first: i32) {
            let mut stamps = vec![i64::from(first)];
            stamps.extend(gaps.iter().scan(i64::from(first), |at, gap| { *at += gap; Some(*at) }));
            if let Some(frames) = frames_of_steps(&stamps) {
                prop_assert_eq!(frames.len(), stamps.len());
                prop_assert!(frames.windows(2).all(|pair| pair[0] <= pair[1]));
                prop_assert_eq!(*frames.last().expect("some"), stamps.len() as u32 - 1);
            }
        }
    }
}
