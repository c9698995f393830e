//! `worker profile`: what each layer costs, on paper and by the clock.

use std::fmt::Write;

use anyhow::Context;
use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use super::network::{self, on_the_device};
use crate::args::ProfileArgs;
use crate::config::{NetworkChoice, PolicyChoice};
use crate::device::profile::{LayerProfile, Profile, Subject, Total, Wanted, profile};
use crate::error::ConfigError;

/// Most clips, passes and threads that make sense.
const MOST: u32 = 1024;

/// Measures, prints the table, writes the JSON.
pub async fn run(args: ProfileArgs) -> anyhow::Result<Code> {
    let wanted = wanted(&args).code(Code::Misconfigured)?;
    let subject = match args.model {
        Some(name) => Subject::Published(name),
        None => {
            let choice = NetworkChoice::try_from(args.network).code(Code::Misconfigured)?;
            Subject::Weights(Box::new(network::load(&choice).await?))
        }
    };
    let found = on_the_device(move || profile(&subject, &wanted)).await?;
    telemetry::print(table(&found));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&found).context("can't write the profile as JSON")? + "\n";
        network::write(path, text.as_bytes())?;
        telemetry::print(format_args!("written to {}", path.display()));
    }
    Ok(Code::Done)
}

fn wanted(args: &ProfileArgs) -> Result<Wanted, ConfigError> {
    for (flag, value) in [("--batch", args.batch), ("--repeats", args.repeats), ("--threads", args.threads)] {
        if !(1..=MOST).contains(&value) {
            return Err(ConfigError::field(flag, value, format!("from 1 to {MOST}")));
        }
    }
    Ok(Wanted {
        policy: PolicyChoice::read(&args.policy)?,
        clip: args.clip.as_deref().map(clip).transpose()?,
        batch: args.batch,
        repeats: args.repeats,
        threads: args.threads,
        device: args.device.parse()?,
    })
}

/// `16x112x112`.
fn clip(text: &str) -> Result<[i64; 3], ConfigError> {
    let sizes: Vec<Option<i64>> = text.split('x').map(|size| size.parse().ok()).collect();
    match sizes.as_slice() {
        [Some(frames), Some(height), Some(width)] => Ok([*frames, *height, *width]),
        _ => Err(ConfigError::field("--clip", text, "frames x height x width, such as 16x112x112")),
    }
}

/// Layers, then the sums and what they are beside the backbone's.
fn table(profile: &Profile) -> String {
    let [batch, frames, rows, columns] = profile.clips;
    let mut text = format!(
        "{}; batch {batch} of {frames} x {rows} x {columns}, CPU threads {}, medians of {} passes\n",
        profile.network, profile.threads, profile.repeats
    );
    let width = profile.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(8);
    let head = ["output", "parameters", "gate+cheap", "MMAC", "paper", "all in", "activations", "ms"];
    line(&mut text, (width, "layer"), &head.map(str::to_owned));
    for layer in &profile.layers {
        line(&mut text, (width, &layer.name), &cells(layer));
    }
    for (name, total) in [("network", &profile.total), ("backbone", &profile.backbone)] {
        line(&mut text, (width, name), &total_cells(total, profile.backbone.macs_paper));
    }
    let inside: f64 = profile.layers.iter().map(|layer| layer.seconds).sum();
    let outside = (profile.total.seconds - inside).max(0.0);
    let _ = writeln!(text, "outside of the layers (residual sums, pools): {} ms", milliseconds(outside));
    let share = profile.total.macs_all_in / profile.backbone.macs_all_in;
    let speed = profile.backbone.seconds / profile.total.seconds;
    let _ = write!(text, "against the backbone: {share:.3} of its multiply-adds all in, {speed:.2} times its speed");
    text
}

fn cells(layer: &LayerProfile) -> [String; 8] {
    let [channels, frames, rows, columns] = layer.output;
    [
        format!("{channels}x{frames}x{rows}x{columns}"),
        layer.parameters.to_string(),
        layer.added_parameters.to_string(),
        millions(layer.macs as f64),
        millions(layer.macs_paper),
        millions(layer.macs_all_in),
        layer.activations.to_string(),
        milliseconds(layer.seconds),
    ]
}

fn total_cells(total: &Total, macs: f64) -> [String; 8] {
    [
        String::new(),
        total.parameters.to_string(),
        String::new(),
        millions(macs),
        millions(total.macs_paper),
        millions(total.macs_all_in),
        total.activations.to_string(),
        milliseconds(total.seconds),
    ]
}

fn millions(macs: f64) -> String {
    format!("{:.2}", macs / 1e6)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2}", 1e3 * seconds)
}

fn line(text: &mut String, (width, name): (usize, &str), cells: &[String; 8]) {
    let cells: String = cells.iter().map(|cell| format!(" {cell:>13}")).collect();
    let _ = writeln!(text, "{name:<width$}{cells}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_three_sizes() {
        assert_eq!(clip("16x112x96"), Ok([16, 112, 96]));
        for wrong in ["16x112", "16x112x112x3", "ax1x1", ""] {
            let error = clip(wrong).expect_err("no clip").to_string();
            assert_eq!(error, format!("--clip is {wrong}: it must be frames x height x width, such as 16x112x112"));
        }
    }
}
