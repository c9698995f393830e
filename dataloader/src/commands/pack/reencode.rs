//! Encodes a video anew, so that a clip of it costs little to read and to decode.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::examine::Examined;
use crate::commands::ffmpeg;
use crate::sources::Trouble;

/// Longest that one call may take, whatever the video.
const LEAST: Duration = Duration::from_secs(120);
/// And for each frame on top: a frame of 4K takes a tenth of it.
const EACH_FRAME: Duration = Duration::from_millis(500);

/// A key frame at least every 16 frames, so that few frames are decoded in vain; no B-frames and no loop filter or
/// CABAC, which make decoding dear; every frame keeps its own time.
const H264: [&str; 29] = [
    "-map",
    "0:V:0",
    "-an",
    "-sn",
    "-dn",
    "-map_metadata",
    "-1",
    "-map_chapters",
    "-1",
    "-fps_mode",
    "passthrough",
    "-enc_time_base",
    "-1",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-tune",
    "fastdecode",
    "-crf",
    "23",
    "-g",
    "16",
    "-bf",
    "0",
    "-pix_fmt",
    "yuv420p",
    "-threads",
    "1",
];
/// The index of frames in front, and no version of the program inside: equal input gives equal bytes.
const MP4: [&str; 6] = ["-movflags", "+faststart", "-fflags", "+bitexact", "-f", "mp4"];

/// The same video in H.264 with `side` pixels on its short side, or fewer if it has fewer.
pub async fn encode(original: &Examined, side: u32) -> Result<Bytes, Trouble> {
    let failed = |error: std::io::Error| Trouble::Any(format!("can't use a temporary file (TMPDIR): {error}"));
    // After a kill it stays: its name says what it was.
    let folder = tempfile::Builder::new().prefix("vared-encode-").tempdir().map_err(failed)?;
    let (from, to) = (folder.path().join("original"), folder.path().join("encoded.mp4"));
    tokio::fs::write(&from, &original.bytes).await.map_err(failed)?;
    let limit = LEAST + EACH_FRAME * original.description.frames;
    ffmpeg::run(&arguments(&from, &to, side), limit).await.map_err(|error| blame(runtime::exit::one_line(&error)))?;
    tokio::fs::read(&to).await.map(Bytes::from).map_err(failed)
}

/// A full disk and a missing program are no fault of the video.
fn blame(line: String) -> Trouble {
    let is_ours = ["No space left", "can't run the ffmpeg program"].iter().any(|sign| line.contains(sign));
    if is_ours { Trouble::Any(line) } else { Trouble::File(line) }
}

fn arguments(from: &Path, to: &Path, side: u32) -> Vec<String> {
    // The size is even, as 4:2:0 wants it; the shape of pixels is dropped, as the loader drops it.
    let fit = |short: &str| format!("min({side},trunc({short}/2)*2)");
    let filter =
        format!("scale=w='if(gt(iw,ih),-2,{})':h='if(gt(iw,ih),{},-2)':flags=bicubic,setsar=1", fit("iw"), fit("ih"));
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    let input = ["-i", &*from, "-vf", &filter];
    let words = input.into_iter().chain(H264).chain(MP4).chain([&*to]);
    words.map(str::to_owned).collect()
}
