//! vared's side of `bench/data/compare.py`: what clips of a file take on one thread, from memory to scaled frames.
//!
//! `clip_rate DATALOADER` reads one JSON object a line, `{"file": PATH, "path": NAME, "seeds": [1, 2]}`, and answers with
//! the first frames of the views of these seeds and with what they took together: `core_seconds` counts this process and its decoder. With
//! `"write": FILE` the frames (thwc) of the last one go there.
//!
//! | path | from | to frames |
//! | --- | --- | --- |
//! | `library` | the whole file | in this process |
//! | `child` | the whole file | through a decoder process, as `dataloader serve` does it |
//! | `excerpt` | the groups of pictures that the index knows | in this process |

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use clips::{DataConfig, Frames, Outline, Scaler, Video};
use dataloader::decoder::wire::Which;
use dataloader::decoder::{Decoder, Settings};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Ask {
    file: PathBuf,
    path: String,
    seeds: Vec<u64>,
    write: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    seconds: f64,
    core_seconds: f64,
    starts: Vec<u32>,
    width: u32,
    height: u32,
    source_frames: u32,
    bytes: usize,
}

/// A file, and what an index says of it.
struct Held {
    file: Bytes,
    frames: u32,
    outline: Option<Outline>,
}

struct Bench {
    held: HashMap<PathBuf, Held>,
    decoder: Decoder,
    scaler: Scaler,
    config: DataConfig,
}

impl Bench {
    fn start(program: PathBuf) -> anyhow::Result<Self> {
        let decoder = Decoder::start(Settings { program, ..Settings::of_this_program() })?;
        let config = toml::from_str(
            "train = 'x'\nval = 'x'\nframes = 16\nstride = 4\nshort_side = [128, 128]\ncrop = 112\n\
             mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]",
        )?;
        Ok(Self { held: HashMap::new(), decoder, scaler: Scaler::default(), config })
    }

    fn hold(&mut self, path: &PathBuf) -> anyhow::Result<()> {
        if !self.held.contains_key(path) {
            let file = Bytes::from(std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?);
            let video = Video::examine(file.clone())?;
            let outline = Outline::of(&video, &file);
            self.held.insert(path.clone(), Held { file, frames: video.frame_count(), outline });
        }
        Ok(())
    }

    /// The frames of one view, and how many bytes they were made of.
    fn frames(&mut self, ask: &Ask, seed: u64) -> anyhow::Result<(Frames, usize)> {
        let Held { file, frames, outline } = &self.held[&ask.file];
        let side = self.config.decoded_short_side(true);
        let wanted = clips::indices(&self.config, &clips::wanted(&self.config, Some(seed)), *frames);
        let decoded = match ask.path.as_str() {
            "library" => (Video::open(file.clone())?.decode(&wanted, side, &mut self.scaler)?, file.len()),
            "child" => {
                let which = Which::Shown(Box::new(self.config.clone()), Some(seed));
                (self.decoder.frames(file, side, which)?, file.len())
            }
            "excerpt" => {
                let outline = outline.as_ref().context("the file has no outline")?;
                let need = outline.needed(&wanted);
                let ranges = outline.groups()[need.groups.clone()].iter().map(|group| group.range_bytes.clone());
                let pieces: Vec<Bytes> =
                    ranges.map(|range| file.slice(range.start as usize..range.end as usize)).collect();
                let bytes = pieces.iter().map(Bytes::len).sum();
                (Video::open(outline.excerpt(&need, &pieces))?.decode(&wanted, side, &mut self.scaler)?, bytes)
            }
            other => bail!("there is no path {other:?}"),
        };
        Ok(decoded)
    }

    fn answer(&mut self, ask: &Ask) -> anyhow::Result<Answer> {
        self.hold(&ask.file)?;
        let (begin, core) = (Instant::now(), self.core_seconds()?);
        let (mut last, mut bytes) = (None, 0);
        for &seed in &ask.seeds {
            let (frames, read) = self.frames(ask, seed)?;
            bytes += read;
            last = Some(frames);
        }
        let (seconds, core_seconds) = (begin.elapsed().as_secs_f64(), self.core_seconds()? - core);
        let last = last.context("no seeds")?;
        if let Some(path) = &ask.write {
            std::fs::write(path, last.pixels())?;
        }
        let source = self.held[&ask.file].frames;
        let first = |&seed: &u64| clips::indices(&self.config, &clips::wanted(&self.config, Some(seed)), source)[0];
        let starts = ask.seeds.iter().map(first).collect();
        let Frames { width, height, source_frames, .. } = last;
        Ok(Answer { seconds, core_seconds, starts, width, height, source_frames, bytes })
    }

    /// Time on cores so far, of this process and its decoder.
    fn core_seconds(&self) -> anyhow::Result<f64> {
        let ours = clock_gettime(ClockId::ProcessCPUTime);
        let child = self.decoder.process_id().context("there is no decoder")?;
        let theirs = std::fs::read_to_string(format!("/proc/{child}/schedstat"))?;
        let theirs: f64 = theirs.split(' ').next().context("no schedstat")?.parse()?;
        Ok(ours.tv_sec as f64 + (ours.tv_nsec as f64 + theirs) * 1e-9)
    }
}

fn main() -> anyhow::Result<()> {
    let program = std::env::args_os().nth(1).context("usage: clip_rate DATALOADER")?;
    let mut bench = Bench::start(program.into())?;
    for line in std::io::stdin().lock().lines() {
        let answer = bench.answer(&serde_json::from_str(&line?)?)?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}
