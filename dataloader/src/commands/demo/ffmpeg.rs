//! Calls of the `ffmpeg` program: one thread each, as many calls at a time as there are cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use futures::{StreamExt, TryStreamExt};
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;

use super::footage::{Content, Source};
use super::motion::{CLIP_FRAMES, Cut, RATE};
use crate::commands::ffmpeg;
use crate::config::cores;

/// Longest that a call may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Short side of prepared footage, pixels.
const SHORT_SIDE: u32 = 216;
/// Frames that are prepared of a source: a minute.
const MAX_FRAMES: u32 = 1800;
/// How to store prepared footage: each frame on its own, so that starting anywhere is exact and cheap.
const INTRA: [&str; 9] = ["-an", "-r", "30", "-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"];
/// How to store clips.
const H264: [&str; 17] = [
    "-an",
    "-r",
    "30",
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
    "-threads",
    "1",
];

/// Runs the calls side by side; `done` hears of each. The first failure, or a shutdown, ends the others.
pub async fn run_all(calls: Vec<Vec<String>>, shutdown: &Shutdown, mut done: impl FnMut()) -> anyhow::Result<()> {
    let mut running = futures::stream::iter(calls).map(run).buffer_unordered(cores());
    loop {
        let next = tokio::select! {
            next = running.try_next() => next?,
            () = shutdown.soon.cancelled() => return Err(anyhow!("stopped before the end")).code(Code::ComeBack),
        };
        match next {
            Some(()) => done(),
            None => return Ok(()),
        }
    }
}

async fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    ffmpeg::run(&arguments, LIMIT).await
}

/// The call that prepares a source: small, every frame lasting 1/30 s whatever the source's rate.
pub fn prepare(source: &Source, to: &Path) -> Vec<String> {
    let size = SHORT_SIDE;
    let fit =
        format!("scale='if(gt(iw,ih),-2,{size})':'if(gt(iw,ih),{size},-2)':flags=area,setsar=1,setpts=N/{RATE}/TB");
    let input = match &source.content {
        Content::File(path) => strings(["-i", &path.to_string_lossy()]),
        Content::Rendered(graph) => strings(["-f", "lavfi", "-i", graph]),
    };
    let cut = strings(["-vf", &fit, "-frames:v", &MAX_FRAMES.to_string()]);
    [input, cut, strings(INTRA), strings([&*to.to_string_lossy()])].concat()
}

/// The call that plays prepared footage fast: every sixth frame, forwards and backwards, so that short sources last.
pub fn speed_up(from: &Path, to: &Path) -> Vec<String> {
    let graph = format!(
        "select='not(mod(n,6))',setpts=N/{RATE}/TB,split[a][b];[b]reverse[r];[a][r]concat=n=2:v=1,\
         loop=loop=3:size=400:start=0,setpts=N/{RATE}/TB"
    );
    let head = strings(["-i", &from.to_string_lossy(), "-filter_complex", &graph]);
    [head, strings(INTRA), strings([&*to.to_string_lossy()])].concat()
}

/// One call that cuts many clips (starting the program costs more than a clip): footage, cut, file.
pub fn cut(clips: &[(PathBuf, Cut, PathBuf)]) -> Vec<String> {
    let mut call = Vec::new();
    for (footage, cut, _) in clips {
        call.extend(strings(["-ss", &format!("{:.5}", cut.start_s), "-i", &footage.to_string_lossy()]));
    }
    for (n, (_, cut, file)) in clips.iter().enumerate() {
        let frames = CLIP_FRAMES.to_string();
        call.extend(strings(["-map", &format!("{n}:v"), "-vf", &cut.filter, "-frames:v", &frames]));
        call.extend(strings(H264));
        call.extend(strings(["-map_metadata", "-1", &file.to_string_lossy()]));
    }
    call
}

fn strings<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}
