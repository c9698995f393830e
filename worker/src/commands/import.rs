//! `worker import`: published weights become a file that every command here can use.

use anyhow::Context;
use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use super::network::{self, on_the_device};
use crate::args::{HeadChoice, ImportArgs};
use crate::device::import::{Classes, Import, ViewChange, import};

/// Reads, checks, writes, and says what was found.
pub async fn run(args: ImportArgs) -> anyhow::Result<Code> {
    let bytes = network::read(&args.file).code(Code::Misconfigured)?;
    let wanted = wanted(&args).code(Code::Misconfigured)?;
    let file = args.file.display().to_string();
    let done = on_the_device(move || import(&bytes, &wanted, &file)).await?;
    let output = args.output.unwrap_or_else(|| args.file.with_extension("vared.safetensors"));
    network::write(&output, &done.bytes)?;
    for note in done.notes {
        telemetry::print(note);
    }
    telemetry::print(format_args!("written to {}", output.display()));
    Ok(Code::Done)
}

fn wanted(args: &ImportArgs) -> anyhow::Result<Import> {
    Ok(Import {
        model: args.model.clone(),
        classes: args.classes.as_deref().map(classes).transpose()?,
        new_head: args.head == HeadChoice::New,
        dynamic: args.dynamic,
        view: ViewChange { frames: args.frames, stride: args.stride, short_side: args.short_side, crop: args.crop },
    })
}

/// A number, or a file with a name a line.
fn classes(text: &str) -> anyhow::Result<Classes> {
    if let Ok(number) = text.parse() {
        return Ok(Classes::Number(number));
    }
    let list = std::fs::read_to_string(text)
        .with_context(|| format!("--classes: a number or a file is wanted; can't read {text}"))?;
    let names: Vec<String> = list.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    anyhow::ensure!(!names.is_empty(), "--classes: {text} names no class; a name a line is wanted");
    Ok(Classes::Named(names))
}
