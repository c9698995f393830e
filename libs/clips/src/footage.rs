//! What the tests look at: small clips made by the `ffmpeg` program, and pictures made by hand.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::{DataConfig, Frames, config::Jitter};

/// A valid section with the given sampling.
pub(crate) fn config(frames: u32, stride: u32) -> DataConfig {
    DataConfig {
        train: "train".into(),
        val: "val".into(),
        frames,
        stride,
        short_side: [64, 72],
        jitter: Jitter::Uniform,
        crop: 56,
        views: 1,
        flip: false,
        mirrored: Vec::new(),
        read: crate::config::Reading::Whole,
        rand_augment: None,
        erasing: None,
        mean: [0.45; 3],
        std: [0.225; 3],
    }
}

/// Frames whose pixels follow a rule.
pub(crate) fn pictures(width: u32, height: u32, count: u32, pixel: fn(usize, usize, usize) -> u8) -> Frames {
    let picture =
        (0..height as usize).flat_map(|y| (0..width as usize).flat_map(move |x| (0..3).map(move |c| pixel(x, y, c))));
    let picture: Vec<u8> = picture.collect();
    Frames::of_pictures((width, height), (0..count).map(|_| picture.clone()).collect())
}

/// Runs `ffmpeg` with these arguments, which must write `name`, and returns the file.
pub(crate) fn make(arguments: &[&str], name: &str) -> Bytes {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join(name);
    run(arguments, &path);
    std::fs::read(path).expect("ffmpeg wrote the file").into()
}

fn run(arguments: &[&str], path: &Path) {
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments)
        .arg(path)
        .output()
        .expect("the tests need the ffmpeg program");
    assert!(out.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// `ffmpeg` source of 36 frames, 96 x 64, in which frame `n` is grey of level `16 + 6 n`.
pub(crate) const GREYS: [&str; 6] = [
    "-f",
    "lavfi",
    "-i",
    "color=black:s=96x64:r=25:d=1.44,geq=lum='16+6*N':cb=128:cr=128,format=yuv420p",
    "-frames:v",
    "36",
];

/// The grey levels with x264's reordered frames and a key frame every 12, as most downloads have them.
pub(crate) fn greys_mp4() -> Bytes {
    static FILE: OnceLock<Bytes> = OnceLock::new();
    FILE.get_or_init(|| greys(&["-c:v", "libx264", "-g", "12", "-bf", "3", "-qp", "8"], "greys.mp4")).clone()
}

/// The grey levels, encoded as asked.
pub(crate) fn greys(codec: &[&str], name: &str) -> Bytes {
    make(&[&GREYS[..], codec].concat(), name)
}
