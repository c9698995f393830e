//! An excerpt shows the same pixels as the whole file, whatever the codec and the container.

use super::*;
use crate::Outline;
use crate::decode::Need;

/// A moving picture with a key frame every 12, with or without sound beside it.
fn moving(codec: &[&str], has_sound: bool, name: &str) -> Bytes {
    let picture = ["-f", "lavfi", "-i", "testsrc2=s=96x72:r=25:d=2.4"];
    let sound: &[&str] = if has_sound { &["-f", "lavfi", "-i", "sine=d=2.4"] } else { &[] };
    make(&[&picture[..], sound, codec, &["-g", "12"]].concat(), name)
}

fn outline(file: &Bytes) -> Outline {
    let video = Video::open(file.clone()).expect("opens");
    let outline = Outline::of(&video, file).expect("its packets lie in the file");
    let bytes = outline.to_bytes();
    let read = Outline::parse(&bytes).expect("own output");
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!((read.frame_count(), read.groups()), (video.frame_count(), outline.groups()));
    read
}

fn excerpt(file: &Bytes, outline: &Outline, need: &Need) -> Bytes {
    let groups = &outline.groups()[need.groups.clone()];
    let pieces: Vec<Bytes> = groups
        .iter()
        .map(|group| file.slice(group.range_bytes.start as usize..group.range_bytes.end as usize))
        .collect();
    for (group, piece) in groups.iter().zip(&pieces) {
        assert_eq!(crc32c::crc32c(piece), group.crc32c);
    }
    outline.excerpt(need, &pieces)
}

/// Decodes from the whole file and from an excerpt, and says what share of the file the excerpt needs.
fn share(name: &str, file: &Bytes, wanted: &[u32]) -> f64 {
    let outline = outline(file);
    let need = outline.needed(wanted);
    let small = Video::open(excerpt(file, &outline, &need)).expect("opens");
    let whole = Video::open(file.clone()).expect("opens");
    assert_eq!((small.frame_count(), small.fps()), (whole.frame_count(), whole.fps()));
    assert_eq!((small.width(), small.height()), (whole.width(), whole.height()));
    let mut scaler = Scaler::default();
    let (a, b) = (whole.decode(wanted, 64, &mut scaler), small.decode(wanted, 64, &mut scaler));
    match b {
        // Of the frames behind an open group's key frame some come out only if decoding starts earlier. Whoever has the
        // file reads all of it then.
        Err(VideoError::Excerpt { .. }) if name.starts_with("open") => return 1.0,
        b => assert_eq!(a.expect("decodes"), b.expect(name), "{name}: frames {wanted:?}"),
    }
    let read: u64 = outline.groups()[need.groups].iter().map(|group| group.length_bytes()).sum();
    read as f64 / file.len() as f64
}

#[test]
fn an_excerpt_shows_what_the_whole_file_shows() {
    let h264 = ["-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"];
    let open = [&h264[..], &["-x264-params", "open-gop=1:scenecut=0"]].concat();
    let front = [&h264[..], &["-movflags", "+faststart"]].concat();
    let long = ["-c:v", "libx264", "-x264-params", "keyint=250"];
    let h265: &[&str] = &["-c:v", "libx265", "-x265-params", "log-level=none:open-gop=1"];
    let vp9: &[&str] = &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "200k"];
    let av1: &[&str] = &["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "200k"];
    let mpeg4: &[&str] = &["-c:v", "mpeg4", "-bf", "2", "-q:v", "4"];
    let cases: [(&[&str], bool, &str); 13] = [
        (&h264, false, "a.mp4"),
        (&h264, true, "sound.mp4"),
        (&front, true, "front.mp4"),
        (&open, true, "open.mp4"),
        (&long, false, "long.mp4"),
        (&h264, true, "a.mkv"),
        (&h264, true, "a.mov"),
        (h265, true, "h265.mp4"),
        (h265, false, "h265.mkv"),
        (vp9, true, "vp9.webm"),
        (av1, false, "av1.mp4"),
        (av1, false, "av1.webm"),
        (mpeg4, true, "mpeg4.mp4"),
    ];
    for (codec, has_sound, name) in cases {
        let file = moving(codec, has_sound, name);
        let whole = share(name, &file, &(0..60).collect::<Vec<u32>>());
        let is_open = name.starts_with("open");
        for wanted in [vec![0], vec![59], vec![11, 12, 13], vec![3, 7, 11, 15], vec![50, 2, 50], vec![24, 34]] {
            let some = share(name, &file, &wanted);
            assert!(is_open || some <= whole, "{name}: {some:.2} of {whole:.2} for {wanted:?}");
        }
        assert!(is_open || share(name, &file, &[25, 29]) < 0.6, "{name}: one group or two of five");
    }
}

#[test]
fn edit_lists_uneven_times_and_rotation_are_kept() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("whole.mp4");
    std::fs::write(&path, greys_mp4()).expect("write");
    let source = path.to_str().expect("utf-8");
    let cut = make(&["-ss", "0.2", "-i", source, "-c", "copy"], "cut.mp4");
    share("cut", &cut, &[0, 3, 20]);
    let turned = make(&["-i", source, "-c", "copy", "-metadata:s:v", "rotate=90"], "turned.mp4");
    share("turned", &turned, &[5, 9]);
    let filter = "setpts='if(lt(N,10),N,10+(N-10)*3)/25/TB'";
    let uneven = greys(&["-vf", filter, "-vsync", "vfr", "-c:v", "libx264", "-qp", "8"], "vfr.mp4");
    share("uneven", &uneven, &[8, 9, 10, 11, 30]);
}

#[test]
fn containers_that_scatter_packets_have_no_outline() {
    for name in ["a.ts", "a.mpg"] {
        let file = greys(&["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"], name);
        let video = Video::open(file.clone()).expect("opens");
        assert!(Outline::of(&video, &file).is_none(), "{name}");
    }
    let file = greys(&["-c:v", "libx264", "-bf", "2", "-qp", "8"], "h264.avi");
    assert!(Outline::of(&Video::open(file.clone()).expect("opens"), &file).is_none(), "without timestamps");
}

#[test]
fn a_damaged_excerpt_is_refused_and_never_crashes() {
    let file = greys_mp4();
    let outline = outline(&file);
    let good = excerpt(&file, &outline, &outline.needed(&[14, 18]));
    for keep in (0..good.len()).step_by(7) {
        assert!(Video::open(good.slice(..keep)).is_err(), "{keep} bytes");
    }
    for at in 0..good.len().min(900) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] ^= flip;
            // It may still be a video, of other frames.
            if let Ok(video) = Video::open(bytes.into()) {
                let _pixels = video.decode(&[video.frame_count() / 2], 32, &mut Scaler::default());
            }
        }
    }
}

#[test]
fn what_an_excerpt_lacks_is_told() {
    let file = greys_mp4();
    let outline = outline(&file);
    let video = Video::open(excerpt(&file, &outline, &outline.needed(&[14]))).expect("opens");
    let error = video.decode(&[30], 32, &mut Scaler::default()).expect_err("is not there");
    assert_eq!(error, VideoError::Excerpt { frame: 30 });
}
