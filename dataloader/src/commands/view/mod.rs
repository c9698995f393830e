//! `dataloader view`: what a model would see of a clip, as one picture.

pub mod sheet;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clips::{DataConfig, Frames, View};
use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use self::sheet::Sheet;
use crate::actors::reader::Reader;
use crate::args::ViewArgs;
use crate::data::dataset::{OpenError, Part};
use crate::data::{ClipRef, Pieces, recipe};
use crate::decoder::wire::Which;
use crate::decoder::{Decoder, Fault, Pool, Settings};
use crate::error::RenderError;

/// Most pictures of a clip that stand beside each other.
const MAX_COLUMNS: u32 = 16;
/// What is shown where no recipe is named.
const RECIPE: &str = include_str!("../../../../recipes/kinetics400-r2plus1d18.toml");

/// Reads the clip, shows it and writes the sheet.
pub async fn main(args: ViewArgs) -> anyhow::Result<Code> {
    let config = config(&args).code(Code::Misconfigured)?;
    let clip = find(&args.url, &args.key).await?;
    let (key, label) = (&clip.clip().key, clip.clip().label);
    let class = clip.part.index.classes.get(label as usize).map_or("no name", String::as_str).to_owned();
    let not_shown = |reason: String| anyhow!("can't show the clip {key:?}: {reason}");
    let file = Reader::new(Pieces::new(0, None)).whole(&clip).await.map_err(|error| not_shown(error.to_string()))?;
    let pool = Pool::start(1, Settings::of_this_program()).await?;
    let seeds = args.seeds;
    let shown = pool.run(move |decoder| show(decoder, &file, (&config, seeds))).await?;
    let (sheet, legend) = shown.map_err(|fault| not_shown(RenderError::from(fault).to_string()))?;
    let out = args.out.unwrap_or_else(|| picture_of(key));
    std::fs::write(&out, sheet.png()?).with_context(|| format!("can't write {}", out.display()))?;
    let (width, height) = sheet.size();
    telemetry::print(format_args!("{key}, label {label} ({class}): {}, {width} x {height} pixels", out.display()));
    for (row, line) in legend.iter().enumerate() {
        telemetry::print(format_args!("row {}: {line}", row + 1));
    }
    Ok(Code::Done)
}

fn config(args: &ViewArgs) -> anyhow::Result<DataConfig> {
    let text = match &args.recipe {
        None => RECIPE.to_owned(),
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?,
    };
    Ok(recipe::parse(&text)?.data)
}

/// The clip of that key in the data set at a URL.
async fn find(url: &str, key: &str) -> anyhow::Result<ClipRef> {
    let opened = Part::open("packed", url, ".").await.map_err(|error| match error {
        OpenError::Store { source, .. } => anyhow!("there is no data set at {url}: {source}"),
        error => error.into(),
    });
    let part = opened.code(Code::Misconfigured)?;
    let clips = &part.index.clips;
    let Some(number) = clips.iter().position(|clip| clip.key == key) else {
        let some: Vec<&str> = clips.iter().map(|clip| clip.key.as_str()).take(3).collect();
        let (count, some) = (clips.len(), some.join(", "));
        return Err(anyhow!("there is no clip {key:?} at {url}: its {count} clips begin with {some}"))
            .code(Code::Misconfigured);
    };
    Ok(ClipRef { part: Arc::new(part), number: number as u64 })
}

/// `folder/clip 1` becomes `clip 1.png`, in the current folder.
fn picture_of(key: &str) -> PathBuf {
    format!("{}.png", key.rsplit('/').next().unwrap_or(key)).into()
}

/// The sheet, and what each of its rows is.
fn show(
    decoder: &mut Decoder,
    file: &Bytes,
    (config, seeds): (&DataConfig, u32),
) -> Result<(Sheet, Vec<String>), Fault> {
    let mut rows = Sheet::default();
    let mut legend = Vec::new();
    let seeds = std::iter::once(None).chain((0..u64::from(seeds)).map(Some));
    let mut source_frames = 0;
    for seed in seeds {
        let held = decoder.frames(
            file,
            config.decoded_short_side(seed.is_some()),
            Which::Shown(Box::new(config.clone()), seed),
        )?;
        source_frames = held.source_frames;
        for view in clips::wanted(config, seed) {
            let pixels = clips::write(config, std::slice::from_ref(&view), &held);
            let every = config.frames.div_ceil(MAX_COLUMNS);
            let pictures = pixels.chunks_exact(clips::decode::frame_bytes(config.crop, config.crop));
            rows.row((config.crop, config.crop), pictures.step_by(every as usize));
            legend.push(line(config, (seed, &view), source_frames));
        }
    }
    // As many of the source as fit under the others, as large as those.
    let first = decoder.frames(file, config.crop, Which::Spread(1))?;
    let count = rows.fits(first.width).min(source_frames);
    let source = decoder.frames(file, config.crop, Which::Spread(count))?;
    let mut sheet = Sheet::default();
    sheet.row((source.width, source.height), source.indices().iter().filter_map(|index| source.picture(*index)));
    sheet.append(rows);
    legend.insert(0, of_source(&source));
    Ok((sheet, legend))
}

fn of_source(source: &Frames) -> String {
    let numbers: Vec<String> = source.indices().iter().map(u32::to_string).collect();
    format!("the source, frames {} of {}", numbers.join(" "), source.source_frames)
}

fn line(config: &DataConfig, (seed, view): (Option<u64>, &View), source_frames: u32) -> String {
    let indices = view.indices(config, source_frames);
    let who = seed.map_or("as held-out clip".to_owned(), |seed| format!("in training, seed {seed}"));
    let mirrored = if view.is_mirrored() { ", mirrored" } else { "" };
    let every = match config.frames.div_ceil(MAX_COLUMNS) {
        1 => String::new(),
        every => format!(", one of {every} shown"),
    };
    let (first, side) = (indices[0], view.short_side());
    format!("{who}: from frame {first}, every {}., short side {side}{mirrored}{every}", config.stride)
}
