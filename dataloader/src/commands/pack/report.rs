//! What became of a pack: for the screen, for a file, and for the data set itself.

use std::path::Path;

use anyhow::Context;
use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use super::plan::{Mode, Plan};
use crate::sources::{Fault, LeftOut, ListError};

/// Name of the report below a data set's URL.
pub const REPORT_OBJECT: &str = "report.json";
/// Broken files that are named on the terminal; the rest is counted.
const NAMED: usize = 50;

/// What was packed and what was not. It names no place and no time: equal packs have equal reports.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Of the list and the settings.
    pub identity: String,
    /// The settings in words.
    pub plan: String,
    /// Identity of the clips and their order, as runs name it.
    pub digest: String,
    /// Clips in the data set.
    pub clips: usize,
    /// Shards.
    pub shards: usize,
    /// Bytes of the videos in them.
    pub bytes: u64,
    /// Each video that is not in it, and why.
    pub left_out: Vec<LeftOut>,
}

/// A data set that was written.
#[derive(Debug)]
pub struct Packed {
    /// Where.
    pub url: String,
    /// What.
    pub report: Report,
}

/// What `--report` writes of a data set.
#[derive(serde::Serialize)]
struct Named<'a> {
    url: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Says what was written and what was not.
pub fn tell(Packed { url, report }: &Packed) {
    telemetry::print(format_args!(
        "packed {} clips ({:.1} MB) into {} {} at {url}",
        report.clips,
        report.bytes as f64 / 1e6,
        report.shards,
        if report.shards == 1 { "shard" } else { "shards" }
    ));
    tell_left_out(&report.left_out);
}

/// Names what is not in the data set.
pub fn tell_left_out(left_out: &[LeftOut]) {
    for LeftOut { name, reason, .. } in left_out.iter().take(NAMED) {
        telemetry::print(format_args!("left out {name}: {reason}"));
    }
    if left_out.len() > NAMED {
        telemetry::print(format_args!("left out {} more; --report FILE names all", left_out.len() - NAMED));
    }
}

/// Says what a list holds that was only checked.
pub fn tell_plan(plan: &Plan, to: &str) {
    let bytes: u64 = plan.items.iter().map(|item| item.entry.length_bytes).sum();
    let what = if plan.settings.mode == Mode::InPlace { "be indexed at" } else { "go to" };
    telemetry::print(format_args!(
        "the list is good: {} videos of {} classes ({:.1} MB), {}, would {what} {to}",
        plan.items.len(),
        plan.classes.len(),
        bytes as f64 / 1e6,
        plan.settings.mode.describe()
    ));
    tell_left_out(&plan.passed_over);
}

/// Names every fault of a list, on the screen and in the report; the one-line error follows.
pub fn refused(error: ListError, file: Option<&Path>) -> anyhow::Error {
    if let ListError::Faults(faults) = &error {
        let shown = if faults.len() == 1 { 0 } else { faults.len().min(4 * NAMED) };
        for Fault { listed, what, .. } in &faults[..shown] {
            telemetry::print_error(format_args!("{listed}: {what}"));
        }
        if faults.len() > 4 * NAMED {
            telemetry::print_error(format_args!("and {} more; --report FILE names all", faults.len() - 4 * NAMED));
        }
        if let Err(failed) = save_json(faults, file) {
            return failed;
        }
    }
    let code = if matches!(error, ListError::Away { .. }) { Code::ComeBack } else { Code::Misconfigured };
    Err::<(), _>(error).code(code).expect_err("it is one")
}

/// The index is complete without what was left out, but who asked for all of it must hear of it.
pub fn code(packed: &[Packed], keep_going: bool) -> Code {
    let is_whole = packed.iter().all(|packed| packed.report.left_out.is_empty());
    if is_whole || keep_going { Code::Done } else { Code::Failed }
}

/// Writes the reports as JSON, if a file was named.
pub fn save(packed: &[Packed], file: Option<&Path>) -> anyhow::Result<()> {
    let named: Vec<Named> = packed.iter().map(|Packed { url, report }| Named { url, report }).collect();
    save_json(&named, file)
}

fn save_json<T: serde::Serialize + ?Sized>(value: &T, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(value).context("can't write the report as JSON")?;
    let written = std::fs::write(file, text + "\n");
    written.with_context(|| format!("can't write the report to {}", file.display())).code(Code::Failed)
}
