//! `metrics.jsonl`: one line of JSON for everything that a reader of the run may want to plot.
//!
//! The file is only appended to, over all starts of a run. Steps after the last checkpoint come again when a run was
//! set back, with a higher generation: the last line of a step counts. `formed` says that a generation steps.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use cluster::{command::Notice, report::Evaluation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the file in the run's log folder.
pub const FILE: &str = "metrics.jsonl";

/// The open file.
pub struct MetricsLog {
    file: File,
    /// A full disk is reported once; training does not stop for it.
    is_broken: bool,
}

#[derive(Serialize)]
struct Line<'a, T> {
    /// Seconds since 1970.
    time: f64,
    event: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct EvaluatedLine {
    #[serde(flatten)]
    evaluation: Evaluation,
}

impl MetricsLog {
    /// Opens the file in the run's log folder, which is made if it is missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = OpenOptions::new().create(true).append(true).open(folder.join(FILE))?;
        Ok(Self { file, is_broken: false })
    }

    /// Writes what a notice says, if it is one for the file.
    pub fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Step(report) => self.write("step", report),
            Notice::Evaluated(evaluation) => self.write("evaluated", evaluation),
            Notice::Committed(commit) => self.write("committed", commit),
            Notice::Quarantined { key, reason } => self.write("quarantined", json!({ "key": key, "reason": reason })),
            Notice::Generation { assembly, why } => self.write("generation", generation(assembly, why)),
            Notice::SetBack { cause, generation, count, .. } => {
                self.write("set_back", json!({ "cause": cause, "generation": generation, "count": count }));
            }
            Notice::Planned { data_set, total_steps } => {
                self.write("planned", json!({ "data_set": data_set, "total_steps": total_steps }));
            }
            Notice::Formed { generation, step } => {
                self.write("formed", json!({ "generation": generation, "step": step }));
            }
            Notice::Dropped(prefixes) => self.write("dropped", json!({ "checkpoints": prefixes })),
            Notice::Waiting { .. } | Notice::Draining { .. } | Notice::Warning(_) => {}
        }
    }

    fn write(&mut self, event: &str, body: impl Serialize) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let line = Line { time: (time * 1e3).round() / 1e3, event, body };
        let written = serde_json::to_string(&line)
            .map_err(io::Error::from)
            .and_then(|text| self.file.write_all(format!("{text}\n").as_bytes()));
        if let (Err(error), false) = (written, self.is_broken) {
            self.is_broken = true;
            tracing::warn!("can't write {FILE} ({error}); training goes on without it");
        }
    }
}

fn generation(assembly: &cluster::command::Assembly, why: &str) -> Value {
    let workers: Vec<String> = assembly.workers.iter().map(|member| member.name.to_string()).collect();
    let source = assembly.start.source().and_then(|rank| workers.get(rank as usize));
    json!({
        "generation": assembly.generation,
        "workers": workers,
        "step": assembly.start.step(),
        "restore": assembly.start.prefix(),
        "source": source,
        "why": why,
    })
}

/// The evaluations that earlier starts of the run left in its file. A line that can't be read is skipped: the file is
/// for people, nothing depends on it.
pub fn earlier_evaluations(folder: &Path) -> Vec<Evaluation> {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let is_one = |line: &&str| line.contains("\"event\":\"evaluated\"");
    let parse = |line: &str| serde_json::from_str::<EvaluatedLine>(line).ok().map(|line| line.evaluation);
    text.lines().filter(is_one).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use cluster::{ids::GenerationNumber, report::Spread};

    use super::*;

    fn evaluation(epoch: u64) -> Evaluation {
        let spread = Spread { avg: 0.5, min: 0.25, max: 1.0 };
        Evaluation {
            generation: GenerationNumber(1),
            step: 50 * (epoch + 1),
            epoch,
            clips: 10,
            loss: 1.5,
            top1: 0.5,
            gmacs_paper: spread,
            gmacs_all_in: spread,
            gmacs_backbone: 2.0,
        }
    }

    #[test]
    fn evaluations_of_earlier_starts_are_found_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for epoch in 0..2 {
            let mut log = MetricsLog::open(folder.path()).expect("opens");
            log.hear(&Notice::Evaluated(evaluation(epoch)));
            log.hear(&Notice::Quarantined { key: "a".to_owned(), reason: "\"event\":\"evaluated\"".to_owned() });
        }
        assert_eq!(earlier_evaluations(folder.path()), [evaluation(0), evaluation(1)]);
    }

    #[test]
    fn every_line_is_json_with_a_time_and_an_event() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = MetricsLog::open(folder.path()).expect("opens");
        log.hear(&Notice::Quarantined { key: "a".to_owned(), reason: "b".to_owned() });
        log.hear(&Notice::Warning("not for the file".to_owned()));
        let text = fs::read_to_string(folder.path().join(FILE)).expect("written");
        let line: Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
        assert_eq!((&line["event"], &line["key"], &line["reason"]), (&json!("quarantined"), &json!("a"), &json!("b")));
        assert!(line["time"].as_f64() > Some(1.6e9), "{line}");
    }

    #[test]
    fn a_run_without_a_file_has_no_earlier_evaluations() {
        assert_eq!(earlier_evaluations(Path::new("/nowhere")), []);
    }
}
