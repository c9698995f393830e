//! The command line, as typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use cluster::{ids::RunName, ledger::retention::Retention, recipe::Assignment};

/// Trains a video network on N workers: launches them and a data loader, forms them into generations, commits their
/// checkpoints, and shows the run. With a command it looks after a run's checkpoints instead.
///
/// The same command with the same run name goes on where the last committed checkpoint left off. Ctrl-C finishes the
/// step, leaves a checkpoint and says how to go on; a second Ctrl-C stops at once.
#[derive(Debug, Clone, Parser)]
#[command(name = "coordinator", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; nothing: train.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to train.
    #[command(flatten)]
    pub run: Args,
}

/// What there is to do beside training.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// List, verify or prune the checkpoints of a run, wherever its store is.
    #[command(subcommand, after_help = CHECKPOINTS)]
    Checkpoints(Checkpoints),
}

/// How to train.
#[derive(Debug, Clone, Parser)]
#[command(name = "coordinator", version, after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Args {
    /// Workers to train on; each carries one lane of the recipe or more.
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,

    /// Workers to go on with at once when others are lost; whoever comes back is taken in after a step (default: all of
    /// them: the run waits for the lost ones).
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    pub min_workers: Option<u32>,

    /// Workers to launch beyond those that train: they wait, ready, and take a lost one's place. Elsewhere started workers
    /// (--external) wait by themselves when all places are taken.
    #[arg(long, value_name = "K", default_value_t = 0, conflicts_with = "external",
          value_parser = clap::value_parser!(u32).range(..=1024))]
    pub spares: u32,

    /// What to train: the name of a recipe that comes with the program, or the path of a .toml file (default: the
    /// run's own recipe if it exists, else demo).
    #[arg(long, value_name = "NAME|PATH")]
    pub recipe: Option<String>,

    /// Change one field of the recipe; may be repeated. The value is TOML, or plain text.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub assignments: Vec<Assignment>,

    /// Where data, checkpoints and the run's record are: a folder, file:///…, or s3://bucket/prefix.
    #[arg(long, value_name = "URL", default_value = ".vared")]
    pub store: String,

    /// The run's name in the store (default: the recipe's name).
    #[arg(long, value_name = "NAME")]
    pub run: Option<RunName>,

    /// The address to serve workers and loaders at; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Launch nothing; wait for workers and loaders that are started elsewhere.
    #[arg(long)]
    pub external: bool,

    /// How long a silent worker may stay in the run, e.g. 10s or 500ms; every other time limit follows from it.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub patience: Duration,

    /// Which checkpoints stay.
    #[command(flatten)]
    pub keep: Keep,

    /// Where the launched processes' output and metrics.jsonl go, in a folder per run.
    #[arg(long, value_name = "DIR", default_value = ".vared/logs")]
    pub log_dir: PathBuf,
}

/// Which checkpoints stay. The newest two that were read back whole do so in any case.
#[derive(Debug, Clone, clap::Args)]
pub struct Keep {
    /// Keep only this many of the newest checkpoints (default: all are kept). After each commit what nothing keeps is dropped,
    /// once the newest two that stay were read back whole.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: Option<u32>,

    /// Keep, too, the first checkpoint at or after each multiple of so many steps.
    #[arg(long, value_name = "STEPS", requires = "keep_last", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep_every: Option<u64>,

    /// Keep, too, this many of those that were best on held-out clips, by top-1.
    #[arg(long, value_name = "B", requires = "keep_last")]
    pub keep_best: Option<u32>,
}

impl Keep {
    /// The rules; `None`: all checkpoints stay.
    pub fn retention(&self) -> Option<Retention> {
        let best = self.keep_best.unwrap_or_default();
        self.keep_last.map(|last| Retention { last, every_steps: self.keep_every, best })
    }
}

/// What is done about a run's checkpoints.
#[derive(Debug, Clone, Subcommand)]
pub enum Checkpoints {
    /// Show every committed checkpoint: step, generation, top-1 where it was evaluated, size, folder; and what else lies
    /// there: folders that no commit names, remains of dropped ones.
    List(Place),
    /// Read every object and compare its length and digest with the manifest, and the manifest with its commit. Damaged
    /// objects are named.
    Verify {
        /// Whose.
        #[command(flatten)]
        place: Place,
        /// Only the checkpoint of this step.
        #[arg(long, value_name = "STEP")]
        step: Option<u64>,
    },
    /// Show what the rules would drop; with --delete, drop it: the journal first, then the objects. The newest two
    /// checkpoints that are read back whole always stay.
    ///
    /// A coordinator that runs this run is fenced by --delete: it ends with 75, and goes on when it is started again. To
    /// thin out a run at work, give it the same flags instead.
    Prune {
        /// Whose.
        #[command(flatten)]
        place: Place,
        /// What stays.
        #[command(flatten)]
        keep: Keep,
        /// Do it.
        #[arg(long, conflicts_with = "dry_run")]
        delete: bool,
        /// Only show it; so does leaving out --delete.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whose checkpoints.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The run's name.
    #[arg(long, value_name = "NAME")]
    pub run: RunName,
    /// Where it is: a folder, file:///…, s3://bucket/prefix, gs://… or az://….
    #[arg(long, value_name = "URL", default_value = ".vared")]
    pub store: String,
    /// Answer with one JSON document.
    #[arg(long)]
    pub json: bool,
}

const CHECKPOINTS: &str = "\
Examples:
  coordinator checkpoints list --run demo
      What there is in ./.vared.
  coordinator checkpoints verify --run first --store s3://bucket/vared --json
      Reads every byte of every checkpoint; exit code 1 if one is damaged.
  coordinator checkpoints prune --run first --store s3://bucket/vared --keep-last 3 --keep-best 1
      Shows what would go; with --delete it goes.

Exit codes: 0 done, and all is whole; 1 something is damaged; 75 come back later: the store did not answer,
or somebody else owns the run; 78 wrong command line, no such run, or a store that can't keep a run.";

const EXAMPLES: &str = "\
Examples:
  coordinator --workers 2
      Trains the demo on two local workers; makes its clips first if they are missing.
  coordinator --workers 2 --run plain --set model.dynamic=none
      The same network without its dynamic part, as a run of its own.
  coordinator --workers 4 --recipe mini-kinetics-r2plus1d18 --store s3://bucket/vared
      A larger recipe, with everything in S3 (credentials from the usual AWS variables).
  coordinator --workers 8 --external --listen 0.0.0.0:7000 --store s3://bucket/vared
      Waits for eight workers that run elsewhere:
      worker run --coordinator http://HOST:7000 --name worker-0
  coordinator --workers 2 --keep-last 3 --keep-every 5000 --keep-best 1
      Keeps the last three checkpoints, one for each 5000 steps, and the best; drops the others.

Exit codes: 0 done or stopped as asked; 75 come back later; 78 wrong configuration; 1 anything else.";

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        unit => return Err(format!("`{unit}` is no unit of time; use ms, s or m, as in 10s")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{digits}` is no number; write 10s or 500ms"))?;
    Duration::try_from_secs_f64(number * scale)
        .map_err(|_| format!("`{text}` is no length of time; write 10s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let all = std::iter::once("coordinator").chain(arguments.iter().copied());
        Args::try_parse_from(all).expect_err("must be refused").to_string()
    }

    #[test]
    fn times_have_units() {
        let parsed = ["10s", "500ms", "2m", "1.5s", "7"].map(|text| duration(text).map(|d| d.as_millis()));
        assert_eq!(parsed, [Ok(10_000), Ok(500), Ok(120_000), Ok(1_500), Ok(7_000)]);
        assert!(duration("ten").is_err() && duration("-1s").is_err() && duration("5h").is_err());
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(refusal(&["--workers", "0"]).contains("'0' for '--workers <N>'"));
        assert!(refusal(&["--run", "a/b"]).contains("the run name \"a/b\" is not usable"));
        assert!(refusal(&["--set", "lanes"]).contains("`lanes` is no assignment"));
        assert!(refusal(&["--listen", "7000"]).contains("--listen <HOST:PORT>"));
        assert!(refusal(&["--patience", "soon"]).contains("`soon` is no unit of time"));
    }

    #[test]
    fn the_help_shows_examples() {
        assert!(refusal(&["--help"]).contains("coordinator --workers 2 --run plain --set model.dynamic=none"));
    }
}
