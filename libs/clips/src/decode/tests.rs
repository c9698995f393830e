mod codecs;
mod hostile;
mod outline;

use super::*;
use crate::footage::{config, greys, greys_mp4, make};
use crate::{Culprit, render};

/// Source frame that a decoded picture shows, by its grey level (video range 16..235 becomes 0..255).
fn shown(picture: &[u8]) -> u32 {
    let mean = picture.iter().map(|&b| f64::from(b)).sum::<f64>() / picture.len() as f64;
    (mean * 219.0 / 255.0 / 6.0).round() as u32
}

fn decode(file: &Bytes, wanted: &[u32]) -> Vec<u32> {
    let video = Video::open(file.clone()).expect("opens");
    let frames = video.decode(wanted, 32, &mut Scaler::default()).expect("decodes");
    wanted.iter().map(|&i| shown(frames.picture(i).expect("wanted"))).collect()
}

#[test]
fn the_wanted_frames_come_out_whatever_the_reordering() {
    let file = greys_mp4();
    let video = Video::open(file.clone()).expect("opens");
    assert_eq!((video.frame_count(), video.width(), video.height()), (36, 96, 64));
    for wanted in [vec![0], vec![35], vec![13, 14, 15], vec![3, 7, 11, 15, 19, 23, 27, 31], (0..36).collect()] {
        assert_eq!(decode(&file, &wanted), wanted);
    }
    assert_eq!(decode(&file, &[30, 2, 2, 17]), [30, 2, 2, 17]);
}

#[test]
fn skipping_frames_changes_no_byte() {
    let file = make(&["-f", "lavfi", "-i", "testsrc2=s=120x90:r=30:d=2", "-c:v", "libx264", "-bf", "3"], "t.mp4");
    let video = Video::open(file).expect("opens");
    let mut scaler = Scaler::default();
    let all: Vec<u32> = (0..video.frame_count()).collect();
    let whole = video.decode(&all, 48, &mut scaler).expect("decodes");
    let some = video.decode(&[5, 22, 41], 48, &mut scaler).expect("decodes");
    for index in [5, 22, 41] {
        assert_eq!(some.picture(index), whole.picture(index), "frame {index}");
    }
    assert_eq!(some.picture(6), None);
}

#[test]
fn many_codecs_and_containers_give_the_same_frames() {
    let cases: [(&[&str], &str); 7] = [
        (&["-c:v", "libx264", "-bf", "0", "-qp", "8"], "a.mkv"),
        (&["-c:v", "libx265", "-x265-params", "log-level=none:qp=8"], "a.mp4"),
        (&["-c:v", "libvpx-vp9", "-crf", "10", "-b:v", "0", "-cpu-used", "8"], "a.webm"),
        (&["-c:v", "libvpx", "-crf", "10", "-b:v", "2M", "-auto-alt-ref", "1", "-lag-in-frames", "16"], "vp8.webm"),
        (&["-c:v", "mpeg4", "-q:v", "2", "-bf", "2"], "a.avi"),
        (&["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"], "a.avi"),
        (&["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"], "a.ts"),
    ];
    for (codec, name) in cases {
        let file = greys(codec, name);
        let count = Video::open(file.clone()).unwrap_or_else(|error| panic!("{name}: {error}")).frame_count();
        assert!((36..=38).contains(&count), "{name} {codec:?} has {count} frames");
        assert_eq!(decode(&file, &[1, 9, 20, 33]), [1, 9, 20, 33], "{name} {codec:?}");
    }
}

#[test]
fn frames_without_timestamps_are_counted() {
    let file = greys(&["-c:v", "libx264", "-bf", "2", "-qp", "8"], "h264.avi");
    let video = Video::open(file.clone()).expect("opens");
    assert!(matches!(video.order, Order::Counted(36)), "{} frames", video.frame_count());
    assert_eq!(decode(&file, &[0, 1, 9, 20, 35]), [0, 1, 9, 20, 35]);
}

#[test]
fn a_frame_that_cannot_be_decoded_is_shown_as_the_one_before() {
    let mut bytes = greys(&["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"], "a.mkv").to_vec();
    let starts: Vec<usize> = (0..bytes.len() - 2).filter(|&i| bytes[i..i + 3] == [0xff, 0xd8, 0xff]).collect();
    assert_eq!(starts.len(), 36, "one picture a frame");
    bytes[starts[10]..starts[11] - 16].fill(0);
    let file = Bytes::from(bytes);
    assert_eq!(decode(&file, &[9, 10, 11]), [9, 9, 11]);
    assert_eq!(decode(&file, &[10]), [9]);
    assert_eq!(Video::open(file).expect("opens").survey().expect("decodes"), Survey { frames: 36, good: 35 });
}

/// Ten frames of a tick each, then 26 of seven ticks: 185 ticks from the first to the last frame, 5.3 a step.
#[test]
fn variable_frame_rates_are_counted_by_time() {
    let filter = "setpts='if(lt(N,10),N,10+(N-10)*7)/25/TB'";
    let file = greys(&["-vf", filter, "-vsync", "vfr", "-c:v", "libx264", "-qp", "8"], "vfr.mp4");
    let on_screen = |step: u32| {
        let tick = (f64::from(step) + 0.5) * 185.0 / 35.0;
        if tick < 10.0 { tick as u32 } else { 10 + ((tick - 10.0) / 7.0) as u32 }
    };
    let steps: Vec<u32> = (0..36).collect();
    let expected: Vec<u32> = steps.iter().map(|&step| on_screen(step).min(35)).collect();
    assert_eq!(&expected[..6], [2, 7, 10, 11, 11, 12], "the test's own arithmetic");
    assert_eq!(decode(&file, &steps), expected);
    assert_eq!(decode(&file, &[30, 4, 5]), [expected[30], expected[4], expected[5]]);
    let mut streamed = Vec::new();
    let mut keep = |step, picture: Bytes| {
        streamed.push((step, shown(&picture)));
        std::ops::ControlFlow::Continue(())
    };
    let video = Video::open(file).expect("opens");
    video.stream(&steps, (48, 32), (&mut Scaler::default(), &mut keep)).expect("decodes");
    assert_eq!(streamed, steps.into_iter().zip(expected).collect::<Vec<_>>());
}

#[test]
fn what_an_edit_list_hides_is_not_a_frame() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("whole.mp4");
    std::fs::write(&path, greys_mp4()).expect("write");
    let source = path.to_str().expect("utf-8");
    // Cut without re-encoding in the middle of a group of pictures: the frames before stay in the file, hidden.
    let cut = make(&["-ss", "0.2", "-i", source, "-c", "copy"], "cut.mp4");
    let count = Video::open(cut.clone()).expect("opens").frame_count();
    assert!(count < 36, "{count} frames");
    let first = decode(&cut, &[0])[0];
    assert_eq!(first, 36 - count, "the first shown frame is the first after the cut");
}

#[test]
fn scaling_keeps_the_shape() {
    assert_eq!(scaled_size(340, 256, 128), (170, 128));
    assert_eq!(scaled_size(1080, 1920, 128), (128, 228));
    assert_eq!(scaled_size(128, 128, 72), (72, 72));
    assert_eq!(scaled_size(1, 1000, 8), (8, 8000));
    let frames = Video::open(greys_mp4()).expect("opens").decode(&[0], 32, &mut Scaler::default()).expect("decodes");
    assert_eq!((frames.width, frames.height, frames.len_bytes()), (48, 32, 48 * 32 * 3));
}

#[test]
fn colours_survive() {
    let file = make(&["-f", "lavfi", "-i", "color=red:s=64x64:d=0.2", "-c:v", "libx264", "-qp", "4"], "red.mp4");
    let frames = Video::open(file).expect("opens").decode(&[1], 16, &mut Scaler::default()).expect("decodes");
    let middle = &frames.picture(1).expect("wanted")[(8 * 16 + 8) * 3..][..3];
    assert!(middle[0] > 245 && middle[1] < 12 && middle[2] < 12, "{middle:?}");
}

fn refusal(file: impl Into<Bytes>) -> VideoError {
    match Video::open(file.into()) {
        Err(error) => error,
        Ok(video) => panic!("a broken file opens, with {} frames", video.frame_count()),
    }
}

#[test]
fn broken_files_say_what_is_wrong() {
    let good = greys_mp4();
    assert_eq!(refusal(Bytes::new()), VideoError::Empty);
    assert_eq!(refusal("<!DOCTYPE html><html><body>404</body></html>"), VideoError::WebPage);
    assert_eq!(refusal("just some words that are no video at all"), VideoError::NotVideo);
    assert_eq!(refusal(vec![0; 4096]), VideoError::NotVideo);
    for keep in [good.len() - 1, good.len() / 2, 100, 40] {
        assert!(matches!(refusal(good.slice(..keep)), VideoError::Truncated { .. }), "{keep} bytes");
    }
    let sound = make(&["-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac"], "sound.mp4");
    assert_eq!(refusal(sound), VideoError::NoVideoStream);
}

#[test]
fn a_cut_faststart_file_is_truncated_too() {
    let file = greys(&["-c:v", "libx264", "-qp", "8", "-movflags", "+faststart"], "fast.mp4");
    let error = refusal(file.slice(..file.len() * 2 / 3));
    assert!(error.to_string().starts_with("the file is cut off: its `mdat` box"), "{error}");
    assert_eq!(error.culprit(), Culprit::File);
}

#[test]
fn a_playlist_reaches_no_other_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let secret = folder.path().join("secret.mp4");
    std::fs::write(&secret, greys_mp4()).expect("write");
    for list in [
        format!("ffconcat version 1.0\nfile '{}'\n", secret.display()),
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", secret.display()),
    ] {
        assert_eq!(refusal(list), VideoError::NotVideo);
    }
}

/// Overwrites the picture size in the track header and the sample entry of an mp4.
fn with_size(file: &Bytes, width: u16, height: u16) -> Bytes {
    let mut bytes = file.to_vec();
    let place = |needle: &[u8]| file.windows(needle.len()).position(|w| w == needle).expect("box is there");
    let entry = place(b"avc1\0\0\0\0\0\0") + 4 + 24;
    bytes[entry..entry + 2].copy_from_slice(&width.to_be_bytes());
    bytes[entry + 2..entry + 4].copy_from_slice(&height.to_be_bytes());
    bytes.into()
}

#[test]
fn a_lying_header_does_not_take_memory() {
    // The stream itself knows better: either the lie is refused or the true size is used, but nothing large is allocated.
    match Video::open(with_size(&greys_mp4(), 60_000, 60_000)) {
        Err(error) => assert!(matches!(error, VideoError::Dimensions { .. }), "{error}"),
        Ok(video) => assert_eq!((video.width(), video.height()), (96, 64)),
    }
    // A small lie as well: the size decides how large the pictures are that come out.
    let small = Video::open(with_size(&greys_mp4(), 48, 48)).expect("opens");
    assert_eq!((small.width(), small.height()), (96, 64));
    let huge = make(&["-f", "lavfi", "-i", "color=black:s=16400x64:d=0.1", "-c:v", "ffv1"], "wide.mkv");
    let error = refusal(huge);
    assert!(error.to_string().starts_with("a frame is 16400 x 64 pixels"), "{error}");
}

#[test]
fn garbage_inside_a_whole_file_is_an_error_not_a_crash() {
    let mut bytes = greys_mp4().to_vec();
    let media = bytes.windows(4).position(|w| w == b"mdat").expect("mdat");
    let end = bytes.windows(4).position(|w| w == b"moov").expect("moov") - 8;
    for (i, byte) in bytes[media + 4..end].iter_mut().enumerate() {
        *byte = (i * 37 % 251) as u8;
    }
    let broken = Bytes::from(bytes);
    let outcome = render(&config(8, 4), broken, None, &mut Scaler::default());
    let error = outcome.expect_err("no frame can come out");
    assert_eq!(error.culprit(), Culprit::File, "{error}");
}

#[test]
fn what_is_not_probed_is_known_all_the_same() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("silent.mp4");
    std::fs::write(&path, greys_mp4()).expect("write");
    let silent = path.to_str().expect("utf-8");
    let sound = ["-f", "lavfi", "-i", "sine=d=1.44", "-c:v", "copy", "-c:a", "aac"];
    let sounding = make(&[&["-i", silent][..], &sound].concat(), "sounding.mp4");
    let all: Vec<u32> = (0..36).collect();
    for file in [greys_mp4(), sounding, greys(&["-c:v", "libx264"], "a.mkv"), greys(&["-c:v", "mpeg4"], "a.mp4")] {
        let [quick, probed] = [Video::open(file.clone()), Video::examine(file)].map(|video| video.expect("opens"));
        assert_eq!((quick.fps(), quick.codec(), quick.container()), (probed.fps(), probed.codec(), probed.container()));
        assert_eq!((quick.width(), quick.height()), (probed.width(), probed.height()));
        let [quick, probed] = [quick, probed].map(|video| video.decode(&all, 32, &mut Scaler::default()));
        assert_eq!(quick.expect("decodes"), probed.expect("decodes"));
    }
}

#[test]
fn a_group_of_pictures_is_left_behind_its_last_wanted_frame() {
    let video = Video::open(greys_mp4()).expect("opens");
    let Order::Stamped(stamps) = &video.order else { panic!("mp4 has timestamps") };
    let used = |wanted: &[u32]| {
        let wanted: Vec<i64> = wanted.iter().map(|&frame| stamps[frame as usize]).collect();
        let useful = video.useful(&video.packets, &|pts| wanted.contains(&pts));
        useful.into_iter().filter(|is_useful| *is_useful).count()
    };
    // Key frames are 0, 12 and 24.
    assert_eq!(used(&[0, 24]), 2);
    assert!((3..=13).contains(&used(&[11, 12])), "frame 11 needs others of its group");
    assert_eq!(used(&(0..36).collect::<Vec<u32>>()), 36);
    let decode = |wanted: &[u32]| video.decode(wanted, 32, &mut Scaler::default()).expect("decodes");
    let (some, all) = (decode(&[0, 5, 24]), decode(&(0..36).collect::<Vec<u32>>()));
    for frame in [0, 5, 24] {
        assert_eq!(some.picture(frame), all.picture(frame), "frame {frame}");
    }
}

#[test]
fn a_survey_counts_what_decodes() {
    let survey = Video::open(greys_mp4()).expect("opens").survey().expect("decodes");
    assert_eq!(survey, Survey { frames: 36, good: 36 });
}

#[test]
fn a_clip_renders_the_same_bytes_every_time() {
    let config = config(8, 4);
    let one = |seed| render(&config, greys_mp4(), seed, &mut Scaler::default()).expect("renders");
    assert_eq!(one(Some(11)), one(Some(11)));
    assert_ne!(one(Some(11)), one(Some(12)));
    assert_eq!(one(None).len(), config.clip_bytes());
    // Decoded as a whole, as a cache holds it, the view is the same.
    let video = Video::open(greys_mp4()).expect("opens");
    let all: Vec<u32> = (0..36).collect();
    let frames = video.decode(&all, config.decoded_short_side(true), &mut Scaler::default()).expect("decodes");
    let mut cached = vec![0; config.clip_bytes()];
    crate::View::train(&config, 11).write(&config, &frames, &mut cached);
    assert_eq!(cached, one(Some(11)));
}
