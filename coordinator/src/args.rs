//! The command line, as typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use cluster::{ids::RunName, recipe::Assignment};

/// Trains a video network on N workers: launches them and a data loader, forms them into generations, commits their
/// checkpoints, and shows the run.
///
/// The same command with the same run name goes on where the last committed checkpoint left off. Ctrl-C finishes the
/// step, leaves a checkpoint and says how to go on; a second Ctrl-C stops at once.
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

    /// Where the launched processes' output and metrics.jsonl go, in a folder per run.
    #[arg(long, value_name = "DIR", default_value = ".vared/logs")]
    pub log_dir: PathBuf,
}

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
