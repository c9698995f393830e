//! What is filmed and downloaded in the world, against what the `ffmpeg` program shows of it.

use std::process::Command;

use super::*;

/// A second of a picture in which everything moves; an odd number of frames.
const FOOTAGE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=s=150x98:r=25:d=1.24"];

/// The pictures that `ffmpeg` makes of a file with our scaler's settings.
fn by_ffmpeg(file: &Bytes, (width, height): (u32, u32)) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("file");
    std::fs::write(&path, file).expect("write");
    let filter = format!("scale={width}:{height}:flags=bilinear+accurate_rnd+bitexact,format=rgb24");
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(&path)
        .args(["-map", "0:v:0", "-vsync", "passthrough", "-vf", &filter, "-f", "rawvideo", "-"])
        .output()
        .expect("the tests need the ffmpeg program");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.chunks(frame_bytes(width, height)).map(<[u8]>::to_vec).collect()
}

/// All pictures of a file, and some of them decoded alone.
fn by_us(file: &Bytes) -> ((u32, u32), Vec<Vec<u8>>) {
    let video = Video::open(file.clone()).expect("opens");
    let mut scaler = Scaler::default();
    let all: Vec<u32> = (0..video.frame_count()).collect();
    let frames = video.decode(&all, 40, &mut scaler).expect("decodes");
    let some = [3, 11, 12, 26].map(|index| index % video.frame_count());
    let alone = video.decode(&some, 40, &mut scaler).expect("decodes");
    for index in some {
        assert!(alone.picture(index) == frames.picture(index), "frame {index} is the same without the others");
    }
    let pictures = all.iter().map(|&index| frames.picture(index).expect("wanted").to_vec()).collect();
    ((frames.width, frames.height), pictures)
}

/// Peak signal-to-noise ratio, in decibels; infinite for equal pictures.
fn psnr(ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "as many frames");
    let (ours, theirs) = (ours.concat(), theirs.concat());
    assert_eq!(ours.len(), theirs.len(), "of one size");
    let squares: f64 = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * ours.len() as f64 / squares).log10()
}

fn encoded(arguments: &[&str], name: &str) -> Bytes {
    make(&[&FOOTAGE[..], arguments].concat(), name)
}

/// The file's pictures must be those of `ffmpeg`, byte for byte.
fn is_exact(arguments: &[&str], name: &str) {
    let file = encoded(arguments, name);
    let (size, ours) = by_us(&file);
    let theirs = by_ffmpeg(&file, size);
    assert!(psnr(&ours, &theirs).is_infinite(), "{name} {arguments:?}: {} dB", psnr(&ours, &theirs));
}

#[test]
fn every_codec_in_every_container_shows_what_ffmpeg_shows() {
    let h264 = ["-c:v", "libx264", "-preset", "fast", "-bf", "3", "-g", "12", "-pix_fmt", "yuv420p"];
    let h265 = ["-c:v", "libx265", "-preset", "fast", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p"];
    let vp8 = ["-c:v", "libvpx", "-b:v", "1M", "-auto-alt-ref", "1", "-lag-in-frames", "16"];
    let vp9 = ["-c:v", "libvpx-vp9", "-crf", "30", "-b:v", "0", "-cpu-used", "8", "-pix_fmt", "yuv420p"];
    let av1 = ["-c:v", "libaom-av1", "-crf", "40", "-cpu-used", "8", "-pix_fmt", "yuv420p"];
    let mpeg4 = ["-c:v", "mpeg4", "-q:v", "3", "-bf", "2"];
    let mpeg2 = ["-c:v", "mpeg2video", "-q:v", "3", "-bf", "2"];
    let mjpeg = ["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"];
    let prores = ["-c:v", "prores_ks", "-profile:v", "2"];
    let cases: [(&[&str], &[&str]); 9] = [
        (&h264, &["a.mp4", "a.mkv", "a.mov", "a.ts", "a.avi"]),
        (&h265, &["a.mp4", "a.mkv", "a.ts"]),
        (&vp8, &["a.webm", "a.mkv"]),
        (&vp9, &["a.webm", "a.mp4"]),
        (&av1, &["a.mp4", "a.webm"]),
        (&mpeg4, &["a.avi", "a.mp4", "a.mkv"]),
        (&mpeg2, &["a.ts", "a.mkv", "a.mpg"]),
        (&mjpeg, &["a.avi", "a.mov"]),
        (&prores, &["a.mov", "a.mkv"]),
    ];
    for (codec, names) in cases {
        for name in names {
            is_exact(codec, name);
        }
    }
}

#[test]
fn odd_pictures_show_what_ffmpeg_shows() {
    let x264 = ["-c:v", "libx264", "-preset", "fast"];
    let cases: [(&str, &[&str]); 9] = [
        ("ten bits", &["-pix_fmt", "yuv420p10le"]),
        ("4:2:2", &["-pix_fmt", "yuv422p"]),
        ("4:4:4 and odd sides", &["-vf", "crop=149:97", "-pix_fmt", "yuv444p"]),
        ("grey", &["-pix_fmt", "gray"]),
        ("interlaced", &["-vf", "crop=150:96", "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p"]),
        ("pixels that are no squares", &["-vf", "setsar=4/3", "-pix_fmt", "yuv420p"]),
        ("full range", &["-vf", "scale=out_range=full", "-color_range", "pc", "-pix_fmt", "yuv420p"]),
        ("BT.709", &["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-pix_fmt", "yuv420p"]),
        ("BT.2020", &["-vf", "scale=out_color_matrix=bt2020", "-colorspace", "bt2020nc", "-pix_fmt", "yuv420p10le"]),
    ];
    for (what, arguments) in cases {
        println!("{what}");
        is_exact(&[&x264[..], arguments].concat(), "odd.mp4");
    }
    is_exact(&["-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le"], "ten.mkv");
    is_exact(&["-c:v", "libvpx-vp9", "-cpu-used", "8", "-pix_fmt", "yuv420p10le"], "ten.webm");
    is_exact(&["-c:v", "ffv1", "-pix_fmt", "bgr0"], "rgb.mkv");
}

#[test]
fn declared_colours_come_out_as_they_were() {
    for (matrix, space) in [("bt601", "smpte170m"), ("bt709", "bt709"), ("bt2020", "bt2020nc")] {
        for (range, tag) in [("limited", "tv"), ("full", "pc")] {
            let filter = format!("scale=out_color_matrix={matrix}:out_range={range},format=yuv444p");
            let file = make(
                &[
                    &["-f", "lavfi", "-i", "color=0x28c850:s=64x64:d=0.2", "-vf", &filter, "-colorspace", space],
                    &["-color_range", tag, "-c:v", "libx264", "-qp", "0"][..],
                ]
                .concat(),
                "colour.mp4",
            );
            let frames = Video::open(file).expect("opens").decode(&[1], 16, &mut Scaler::default()).expect("decodes");
            let middle = &frames.picture(1).expect("wanted")[(8 * 16 + 8) * 3..][..3];
            let is_near = middle.iter().zip([0x28, 0xc8, 0x50]).all(|(is, was): (&u8, u8)| is.abs_diff(was) <= 3);
            assert!(is_near, "{matrix}, {range} range: {middle:?}");
        }
    }
}

#[test]
fn what_was_filmed_lying_down_is_shown_upright() {
    // Without colours: `ffmpeg` turns before it scales, we after, and those have half as many pixels.
    let plain = encoded(&["-vf", "hue=s=0", "-c:v", "libx264", "-qp", "8", "-pix_fmt", "yuv420p"], "plain.mp4");
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("plain.mp4");
    std::fs::write(&path, &plain).expect("write");
    for degrees in ["90", "180", "270"] {
        let rotate = format!("rotate={degrees}");
        let source = path.to_str().expect("utf-8");
        let file = make(&["-i", source, "-c", "copy", "-metadata:s:v:0", &rotate], "turned.mp4");
        let (size, ours) = by_us(&file);
        assert_eq!(size, if degrees == "180" { (61, 40) } else { (40, 61) }, "{degrees}");
        let quality = psnr(&ours, &by_ffmpeg(&file, size));
        assert!(quality > 40.0, "{degrees} degrees: {quality} dB");
    }
}

#[test]
fn sound_and_other_streams_are_passed_over() {
    let sound = ["-f", "lavfi", "-i", "sine=d=1.24", "-c:a", "aac", "-shortest"];
    let file = encoded(&[&sound[..], &["-c:v", "libx264", "-preset", "fast"]].concat(), "sound.mp4");
    let silent = encoded(&["-c:v", "libx264", "-preset", "fast"], "silent.mp4");
    assert_eq!(by_us(&file), by_us(&silent));
}
