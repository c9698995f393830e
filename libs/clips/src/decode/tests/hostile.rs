//! Files that are broken or lie: each is refused with a reason or shown, within bounds of time and memory.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

/// What becomes of a file; a panic or a hang is the failure of the test.
fn outcome(file: impl Into<Bytes>) -> Result<Vec<u8>, VideoError> {
    render(&config(8, 4), file.into(), Some(7), &mut Scaler::default())
}

/// Small files of all kinds of containers.
fn files() -> &'static [(&'static str, Bytes)] {
    static FILES: OnceLock<Vec<(&str, Bytes)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let h264 = ["-c:v", "libx264", "-bf", "2", "-g", "12"];
        let cases: [(&[&str], &str); 8] = [
            (&h264, "a.mp4"),
            (&h264, "a.mkv"),
            (&h264, "a.ts"),
            (&["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov", "-g", "12"], "fragments.mp4"),
            (&["-c:v", "mpeg4", "-bf", "2"], "a.avi"),
            (&["-c:v", "libvpx-vp9", "-cpu-used", "8"], "a.webm"),
            (&["-c:v", "mpeg2video"], "a.mpg"),
            (&["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], "a.mov"),
        ];
        cases.into_iter().map(|(codec, name)| (name, greys(codec, name))).collect()
    })
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused_or_shown() {
    for (name, file) in files() {
        assert!(outcome(file.clone()).is_ok(), "{name} as a whole");
        for part in 0..40 {
            let keep = file.len() * part / 40;
            match outcome(file.slice(..keep)) {
                Ok(pixels) => assert_eq!(pixels.len(), config(8, 4).clip_bytes(), "{name}, {keep} bytes"),
                Err(error) => assert_eq!(error.culprit(), Culprit::File, "{name}, {keep} bytes: {error}"),
            }
        }
    }
    // What has no index at its end can only be known to be cut by what its header says.
    let mp4 = &files()[0].1;
    for keep in 1..200.min(mp4.len()) {
        assert!(outcome(mp4.slice(..keep)).is_err(), "{keep} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_any_damage_is_refused_or_shown(
        which in 0usize..8,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = files()[which].1.to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(pixels) = outcome(bytes) {
            prop_assert_eq!(pixels.len(), config(8, 4).clip_bytes());
        }
    }

    /// Headers are a small part of a file, and where lies do harm.
    #[test]
    fn a_header_with_any_damage_is_refused_or_shown(
        which in 0usize..8,
        damage in proptest::collection::vec((0usize..1500, any::<u8>()), 1..6),
        from_the_end: bool,
    ) {
        let mut bytes = files()[which].1.to_vec();
        let length = bytes.len();
        for (place, byte) in damage {
            let place = place % length;
            bytes[if from_the_end { length - 1 - place } else { place }] = byte;
        }
        if let Ok(pixels) = outcome(bytes) {
            prop_assert_eq!(pixels.len(), config(8, 4).clip_bytes());
        }
    }
}

/// Overwrites what follows `name` in a box of an mp4, `skip` bytes behind the name.
fn with(file: &Bytes, (name, skip): (&[u8; 4], usize), lie: &[u8]) -> Bytes {
    let mut bytes = file.to_vec();
    let place = bytes.windows(4).rposition(|window| window == name).expect("the box is there") + 4 + skip;
    bytes[place..place + lie.len()].copy_from_slice(lie);
    bytes.into()
}

/// Either the lie is refused, or the stream itself knows better and is shown: never is memory made for it.
fn is_borne(what: &str, file: Bytes) {
    if let Err(error) = outcome(file) {
        assert_eq!(error.culprit(), Culprit::File, "{what}: {error}");
    }
}

#[test]
fn headers_that_lie_are_found_out() {
    let mp4 = &files()[0].1;
    let many = 1_000_000_000_u32.to_be_bytes();
    // All of one size, so that no table of sizes has to follow.
    let sizes = [&100_u32.to_be_bytes()[..], &many].concat();
    let error = outcome(with(mp4, (b"stsz", 4), &sizes)).expect_err("there are 36");
    assert_eq!(error.culprit(), Culprit::File, "{error}");
    is_borne("a thousand million frames by their table of times", with(mp4, (b"stts", 8), &many));
    is_borne("65535 by 65535 pixels", with(mp4, (b"avc1", 24), &[0xff; 4]));
    let avi =
        make(&["-f", "lavfi", "-i", "color=black:s=64x64:d=0.2", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], "a.avi");
    let million = 1_000_000_u32.to_le_bytes();
    is_borne("a million by a million pixels", with(&avi, (b"strf", 8), &[million, million].concat()));
}

#[test]
fn a_stream_without_an_end_is_refused() {
    let second = greys(&["-c:v", "libx264", "-bf", "0", "-g", "36", "-preset", "ultrafast"], "a.h264");
    let endless: Bytes = second.repeat(200_000 / 36 + 1).into();
    assert_eq!(outcome(endless), Err(VideoError::TooLong { max: 200_000 }));
}

#[test]
fn a_name_that_lies_does_not_matter() {
    // Nothing but bytes comes here: the extension is never looked at.
    for (_, file) in files() {
        assert!(outcome(file.clone()).is_ok());
    }
    let text = make(&["-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "pcm_s16le"], "sound.wav");
    assert_eq!(outcome(text), Err(VideoError::NotVideo));
    for (what, bytes) in [("png", &b"\x89PNG\r\n\x1a\n"[..]), ("pdf", b"%PDF-1.4\n"), ("zip", b"PK\x03\x04")] {
        assert_eq!(outcome(bytes.repeat(99)), Err(VideoError::NotVideo), "{what}");
    }
}

/// What a file says of its colours comes out of the decoder as it stands there: a number without a meaning.
#[test]
fn colours_that_nobody_knows_are_shown_as_if_nothing_were_said() {
    let said = |matrix: &str| {
        let tags = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", matrix];
        greys(&[&["-c:v", "mpeg2video", "-q:v", "2"][..], &tags].concat(), "a.mpg").to_vec()
    };
    // The sequence display extension: which one it is, that colours are described, primaries, transfer, matrix.
    let place = |file: &[u8]| file.windows(5).position(|w| w[..4] == [0, 0, 1, 0xb5] && w[4] >> 4 == 2);
    let mut file = said("smpte170m");
    let matrix = place(&file).expect("colours are described") + 7;
    assert_eq!(file[matrix], 6, "the matrix");
    let plain = outcome(file.clone());
    for lie in [108, 255, 3] {
        file[matrix] = lie;
        assert!(plain.is_ok() && outcome(file.clone()) == plain, "matrix {lie}");
    }
}

#[test]
fn the_cover_of_an_album_is_no_video() {
    let cover = ["-f", "lavfi", "-i", "color=red:s=64x64:d=0.04:r=25", "-f", "lavfi", "-i", "sine=d=0.5"];
    let song = ["-map", "0", "-map", "1", "-c:v", "png", "-c:a", "aac", "-disposition:v", "attached_pic"];
    assert_eq!(outcome(make(&[&cover[..], &song].concat(), "song.m4a")), Err(VideoError::NoVideoStream));
}

#[test]
fn a_video_that_changes_its_size_is_shown_in_one() {
    let part = |size: &str, offset: &str| {
        let source = format!("testsrc=s={size}:r=25:d=1");
        let codec = ["-c:v", "libx264", "-bf", "0", "-output_ts_offset", offset];
        make(&[&["-f", "lavfi", "-i", &source][..], &codec].concat(), "a.ts")
    };
    let joined = [part("96x64", "0"), part("64x96", "1")].concat();
    let video = Video::open(joined.into()).expect("opens");
    assert_eq!((video.frame_count(), video.width(), video.height()), (50, 96, 64));
    let frames = video.decode(&[3, 40], 32, &mut Scaler::default()).expect("decodes");
    assert_eq!((frames.width, frames.height, frames.indices()), (48, 32, &[3, 40][..]));
}

#[test]
fn a_video_without_frames_is_refused() {
    let header = make(&["-f", "lavfi", "-i", "color=black:s=64x64:d=0", "-c:v", "libx264"], "none.mp4");
    let error = outcome(header).expect_err("nothing to show");
    assert!(matches!(error, VideoError::NoFrames | VideoError::NoVideoStream), "{error}");
    let header = make(&["-f", "lavfi", "-i", "color=black:s=64x64:d=0", "-c:v", "libvpx-vp9"], "none.webm");
    let error = outcome(header).expect_err("nothing to show");
    assert_eq!(error.culprit(), Culprit::File, "{error}");
}
