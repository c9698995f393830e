use super::*;

/// Eight frames, eight apart, ten views of three squares.
fn config() -> ViewConfig {
    let placement = Placement::Uniform(10);
    ViewConfig { frames: 8, stride: 8, target_fps: None, placement, crops: 3, short_side: 256, crop: 256 }
}

fn windows(window_seconds: Option<f64>, hop_seconds: Option<f64>) -> ViewConfig {
    ViewConfig { frames: 4, stride: 2, placement: Placement::Windows { window_seconds, hop_seconds }, ..config() }
}

fn indices(config: &ViewConfig, source_frames: u32, view: u32) -> Vec<u32> {
    config.lay(source_frames, Some(25.0)).expect("the rate is known").indices(view)
}

#[test]
fn views_start_at_k_of_n_of_the_spare_frames() {
    assert_eq!(config().lay(300, None).expect("no rate is needed").views(), 10);
    assert_eq!(indices(&config(), 300, 0), [0, 9, 18, 27, 36, 45, 54, 63]);
    // 236 · 3 / 10 = 70.8, and so on in steps of 9.
    assert_eq!(indices(&config(), 300, 3), [70, 79, 88, 97, 106, 115, 124, 133]);
    assert_eq!(indices(&config(), 300, 9), [212, 221, 230, 239, 248, 257, 266, 275]);
    let x3d = ViewConfig { frames: 16, stride: 5, ..config() };
    assert_eq!(indices(&x3d, 300, 0), [0, 5, 10, 15, 21, 26, 31, 36, 42, 47, 52, 57, 63, 68, 73, 79]);
}

#[test]
fn a_short_video_holds_its_last_frame() {
    let config = ViewConfig { stride: 4, ..config() };
    for view in [0, 9] {
        assert_eq!(indices(&config, 10, view), [0, 4, 8, 9, 9, 9, 9, 9]);
    }
}

#[test]
fn a_target_rate_stretches_the_clip() {
    let config = ViewConfig { target_fps: Some(30.0), placement: Placement::Uniform(1), ..config() };
    let layout = config.lay(600, Some(60.0)).expect("the rate is known");
    assert_eq!(layout.indices(0), [0, 18, 36, 54, 72, 90, 108, 127]);
    let error = config.lay(600, None).expect_err("no rate");
    assert!(error.to_string().contains("so target_fps can't be kept"), "{error}");
}

#[test]
fn one_frame_is_the_first_of_its_place() {
    let config = ViewConfig { frames: 1, stride: 1, placement: Placement::Uniform(4), ..config() };
    assert_eq!((0..4).map(|view| indices(&config, 9, view)[0]).collect::<Vec<_>>(), [0, 2, 4, 6]);
}

/// Over many lengths, every index of every view as torch computes it, in one number. Made by
///
/// ```python
/// h = 0
/// for t, s, n in [(8, 8, 10), (16, 5, 10), (13, 6, 10), (16, 4, 3), (32, 2, 10), (4, 16, 7), (16, 1, 5)]:
///     for f in range(1, 420, 3):
///         size = max(1.0, s * t); delta = max(f - size, 0)
///         for k in range(n):
///             start = delta * k / n
///             i = torch.clamp(torch.linspace(start, start + size - 1, t), 0, f - 1).long()
///             for v in i.tolist(): h = (h * 1000003 + v + 1) % 2**64
/// ```
#[test]
fn all_indices_are_those_of_the_protocol() {
    let mut hash = 0_u64;
    for (frames, stride, views) in
        [(8, 8, 10), (16, 5, 10), (13, 6, 10), (16, 4, 3), (32, 2, 10), (4, 16, 7), (16, 1, 5)]
    {
        let config = ViewConfig { frames, stride, placement: Placement::Uniform(views), ..config() };
        for source_frames in (1..420).step_by(3) {
            let layout = config.lay(source_frames, None).expect("no rate is needed");
            for index in (0..views).flat_map(|view| layout.indices(view)) {
                hash = hash.wrapping_mul(1_000_003).wrapping_add(u64::from(index) + 1);
            }
        }
    }
    assert_eq!(hash, 2_729_526_540_897_621_559);
}

#[test]
fn windows_cover_the_video_and_the_last_ends_with_it() {
    let firsts = |config: &ViewConfig, source_frames| {
        let layout = config.lay(source_frames, Some(25.0)).expect("the rate is known");
        (0..layout.views()).map(|view| layout.indices(view)[0]).collect::<Vec<_>>()
    };
    let config = windows(None, None);
    assert_eq!(firsts(&config, 36), [0, 8, 16, 24, 28]);
    assert_eq!(indices(&config, 36, 4), [28, 30, 32, 34]);
    assert_eq!(firsts(&config, 32), [0, 8, 16, 24]);
    assert_eq!(firsts(&config, 8), [0]);
    // Overlapping: every 0.2 s, five frames.
    assert_eq!(firsts(&windows(None, Some(0.2)), 19), [0, 5, 10, 11]);
    // A stretch of a second: 25 frames, four of them.
    assert_eq!(indices(&windows(Some(1.0), None), 60, 1), [25, 31, 37, 43]);
}

#[test]
fn a_video_shorter_than_a_window_is_looped_as_in_training() {
    assert_eq!(indices(&windows(None, None), 5, 0), [0, 2, 4, 1]);
    assert_eq!(indices(&windows(None, None), 1, 0), [0, 0, 0, 0]);
}

#[test]
fn lengths_in_seconds_need_a_rate() {
    let error = windows(Some(1.0), None).lay(60, None).expect_err("no rate");
    assert_eq!(error, ViewError::NoRate("window"));
    assert!(windows(None, None).lay(60, None).is_ok());
}

#[test]
fn the_squares_lie_at_the_ends_and_the_middle_of_the_long_side() {
    assert_eq!(config().squares(340, 256), ((340, 256), vec![(0, 0), (42, 0), (84, 0)]));
    // An odd rest is rounded up.
    assert_eq!(config().squares(341, 256).1[1], (43, 0));
    let tall = ViewConfig { short_side: 128, crop: 112, ..config() };
    assert_eq!(tall.squares(240, 320), ((128, 170), vec![(8, 0), (8, 29), (8, 58)]));
    assert_eq!(tall.squares(100, 100), ((128, 128), vec![(0, 8), (8, 8), (16, 8)]));
    let centre = ViewConfig { crops: 1, crop: 224, ..config() };
    assert_eq!(centre.squares(340, 256), ((340, 256), vec![(58, 16)]));
}

#[test]
fn each_refusal_names_setting_value_and_bound() {
    let refused = |config: ViewConfig| config.validate().expect_err("out of range").to_string();
    assert!(config().validate().is_ok() && windows(Some(0.5), Some(0.1)).validate().is_ok());
    assert_eq!(refused(ViewConfig { frames: 0, ..config() }), "frames is 0, but must be from 1 to 256");
    assert_eq!(refused(ViewConfig { crops: 2, ..config() }), "crops is 2, but must be 1 or 3");
    assert_eq!(refused(ViewConfig { crop: 257, ..config() }), "crop is 257, but must be from 8 to 256");
    assert_eq!(
        refused(ViewConfig { placement: Placement::Uniform(0), ..config() }),
        "views is 0, but must be from 1 to 1000"
    );
    assert_eq!(refused(windows(None, Some(-1.0))), "hop is -1, but must be above 0");
    assert!(refused(windows(Some(f64::NAN), None)).starts_with("window is NaN"));
}
