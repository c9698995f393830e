//! What was typed, validated.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cluster::ids::{Incarnation, MemberName, RunName};
use cluster::limits;

use crate::args::{EvalArgs, RunArgs};
use crate::error::ConfigError;

/// Most steps that clips are asked for ahead; more only fills memory.
pub const MAX_PREFETCH_STEPS: u32 = 64;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

/// A validated `worker run`.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The coordinator's URL.
    pub coordinator: String,
    /// This worker's seat.
    pub name: MemberName,
    /// This process: new for every start.
    pub incarnation: Incarnation,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Steps that clips are asked for ahead.
    pub prefetch_steps: u32,
    /// Until the coordinator says its own.
    pub patience: Duration,
}

/// Which checkpoint to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest whole one.
    Latest,
    /// That of exactly this step.
    Step(u64),
}

/// A validated `worker eval`.
#[derive(Debug, Clone)]
pub struct EvalConfig {
    /// The store's URL.
    pub store: String,
    /// The run.
    pub run: RunName,
    /// The run to compare with.
    pub baseline: Option<RunName>,
    /// Which checkpoint of the run; of the baseline it is always the latest.
    pub which: Which,
    /// Where the summary goes.
    pub json: Option<PathBuf>,
    /// At most so many held-out clips.
    pub clips: Option<u64>,
    /// A running loader.
    pub loader: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

impl FromStr for DeviceChoice {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(ConfigError::field("--device", text, "cpu, auto or cuda:N")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<RunArgs> for RunConfig {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        proto::connect::endpoint(&args.coordinator, limits::DEFAULT_PATIENCE)
            .map_err(|error| ConfigError::other("--coordinator", error))?;
        if !(1..=MAX_PREFETCH_STEPS).contains(&args.prefetch) {
            return Err(ConfigError::field("--prefetch", args.prefetch, format!("1 to {MAX_PREFETCH_STEPS}")));
        }
        Ok(Self {
            coordinator: args.coordinator,
            name: args.name.parse().map_err(|error| ConfigError::other("--name", error))?,
            incarnation: uuid::Uuid::new_v4().to_string().parse().expect("a uuid is a good name"),
            device: args.device.parse()?,
            prefetch_steps: args.prefetch,
            patience: limits::DEFAULT_PATIENCE,
        })
    }
}

impl TryFrom<EvalArgs> for EvalConfig {
    type Error = ConfigError;

    fn try_from(args: EvalArgs) -> Result<Self, ConfigError> {
        let run_name = |flag: &'static str, text: &str| text.parse().map_err(|error| ConfigError::other(flag, error));
        if let Some(url) = &args.loader {
            let checked = proto::connect::endpoint(url, limits::DEFAULT_PATIENCE);
            checked.map_err(|error| ConfigError::other("--loader", error))?;
        }
        if args.clips == Some(0) {
            return Err(ConfigError::field("--clips", 0, "1 or more"));
        }
        Ok(Self {
            run: run_name("--run", &args.run)?,
            baseline: args.baseline.as_deref().map(|text| run_name("--baseline", text)).transpose()?,
            which: which(&args.checkpoint)?,
            device: args.device.parse()?,
            store: args.store,
            json: args.json,
            clips: args.clips,
            loader: args.loader,
        })
    }
}

fn which(text: &str) -> Result<Which, ConfigError> {
    match text {
        "latest" => Ok(Which::Latest),
        step => step.parse().map(Which::Step).map_err(|_| ConfigError::field("--checkpoint", text, "latest or a step")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_args() -> RunArgs {
        RunArgs {
            coordinator: "http://127.0.0.1:4100".to_owned(),
            name: "worker-0".to_owned(),
            device: "auto".to_owned(),
            prefetch: 4,
        }
    }

    #[test]
    fn devices_are_read_and_shown_alike() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<DeviceChoice>().expect("known").to_string(), text);
        }
    }

    #[test]
    fn an_unknown_device_is_refused_with_what_would_do() {
        for text in ["gpu", "cuda:x", "cuda:-1", ""] {
            let error = text.parse::<DeviceChoice>().expect_err("unknown").to_string();
            assert_eq!(error, format!("--device is {text}: it must be cpu, auto or cuda:N"));
        }
    }

    #[test]
    fn a_good_command_line_is_taken() {
        let config = RunConfig::try_from(run_args()).expect("good");
        assert_eq!((config.name.as_str(), config.prefetch_steps), ("worker-0", 4));
    }

    #[test]
    fn each_wrong_value_is_named_with_its_flag() {
        let spoilt = [
            (RunArgs { coordinator: "nowhere".to_owned(), ..run_args() }, "--coordinator"),
            (RunArgs { name: "a/b".to_owned(), ..run_args() }, "--name"),
            (RunArgs { prefetch: 0, ..run_args() }, "--prefetch"),
        ];
        for (args, flag) in spoilt {
            let error = RunConfig::try_from(args).expect_err("refused").to_string();
            assert!(error.starts_with(flag), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_is_latest_or_a_step() {
        assert_eq!(which("latest").expect("good"), Which::Latest);
        assert_eq!(which("150").expect("good"), Which::Step(150));
        assert_eq!(
            which("newest").expect_err("no step").to_string(),
            "--checkpoint is newest: it must be latest or a step"
        );
    }
}
