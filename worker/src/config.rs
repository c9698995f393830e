//! What was typed, validated.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cluster::ids::{Incarnation, MemberName, RunName};
use cluster::limits;

use crate::args::{EvalArgs, NetworkArgs, PredictArgs, RunArgs, SamplingArgs};
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

/// Which network to use, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChoice {
    /// A safetensors file with a card.
    Weights(PathBuf),
    /// A run's checkpoint.
    Run {
        /// The store's URL.
        store: String,
        /// The run.
        run: RunName,
        /// Which checkpoint.
        which: Which,
    },
}

/// How dynamic layers decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyChoice {
    /// Everything in full, as the backbone.
    Full,
    /// By the gates, computing everything.
    Soft,
    /// By the gates, leaving out what they don't want.
    Skip,
    /// As this document says, for every clip.
    Forced(String),
}

/// How videos are looked at, as far as the command line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Clips in time, by PySlowFast's rule; without: whatever the command does by itself.
    pub views: Option<u32>,
    /// Squares of each.
    pub crops: u32,
    /// Side of the squares, in pixels, if other than the network's own.
    pub crop: Option<u32>,
    /// The stride counts frames of this rate.
    pub target_fps: Option<f64>,
}

/// A validated `worker eval`.
#[derive(Debug, Clone)]
pub struct EvalConfig {
    /// What is evaluated.
    pub network: NetworkChoice,
    /// What it is compared with.
    pub baseline: Option<NetworkChoice>,
    /// A data set instead of the run's own.
    pub data: Option<String>,
    /// How videos are looked at; without views: one clip, the middle.
    pub sampling: Sampling,
    /// Where the summary goes.
    pub json: Option<PathBuf>,
    /// Where the page goes.
    pub report: Option<PathBuf>,
    /// At most so many held-out clips.
    pub clips: Option<u64>,
    /// A running loader.
    pub loader: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// A validated `worker predict`.
#[derive(Debug, Clone)]
pub struct PredictConfig {
    /// The network.
    pub network: NetworkChoice,
    /// Files, folders and `-`.
    pub videos: Vec<PathBuf>,
    /// How many classes to name.
    pub top: usize,
    /// How videos are looked at; without views: windows from the start to the end.
    pub sampling: Sampling,
    /// Length of the windows, in seconds.
    pub window_seconds: Option<f64>,
    /// Distance of their starts, in seconds.
    pub hop_seconds: Option<f64>,
    /// Say what is seen when.
    pub timeline: bool,
    /// How dynamic layers decide.
    pub policy: PolicyChoice,
    /// For programs.
    pub json: bool,
    /// A running loader.
    pub loader: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

impl PolicyChoice {
    /// A word, the name of a file, or the text of one.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        Ok(match text {
            "full" => Self::Full,
            "soft" => Self::Soft,
            "skip" => Self::Skip,
            document if document.trim_start().starts_with('{') => Self::Forced(document.to_owned()),
            file => Self::Forced(std::fs::read_to_string(file).map_err(|error| {
                ConfigError::other(
                    "--policy",
                    format!("full, soft, skip or a file is wanted; can't read {file}: {error}"),
                )
            })?),
        })
    }
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
        if args.clips == Some(0) {
            return Err(ConfigError::field("--clips", 0, "1 or more"));
        }
        let store = args.network.store.clone();
        let baseline = args.baseline.map(|run| {
            let run = run.parse().map_err(|error| ConfigError::other("--baseline", error))?;
            Ok(NetworkChoice::Run { store, run, which: Which::Latest })
        });
        let network = NetworkChoice::try_from(args.network)?;
        if matches!(network, NetworkChoice::Weights(_)) && args.data.is_none() {
            return Err(ConfigError::other("--weights", "give a data set too, with --data"));
        }
        let mut sampling = Sampling::try_from(args.sampling)?;
        if sampling.crops > 1 || sampling.crop.is_some() || sampling.target_fps.is_some() {
            // Whoever asks for more than the middle asks for the protocol.
            sampling.views.get_or_insert(1);
        }
        Ok(Self {
            network,
            baseline: baseline.transpose()?,
            data: args.data,
            sampling,
            json: args.json,
            report: args.report,
            clips: args.clips,
            loader: loader(args.loader)?,
            device: args.device.parse()?,
        })
    }
}

impl TryFrom<PredictArgs> for PredictConfig {
    type Error = ConfigError;

    fn try_from(args: PredictArgs) -> Result<Self, ConfigError> {
        if args.top == 0 {
            return Err(ConfigError::field("--top", 0, "1 or more"));
        }
        for (flag, seconds) in [("--window", args.window), ("--hop", args.hop)] {
            positive(flag, seconds)?;
        }
        if args.videos.iter().filter(|video| video.as_os_str() == "-").count() > 1 {
            return Err(ConfigError::other("-", "standard input holds one video: name it once"));
        }
        Ok(Self {
            network: NetworkChoice::try_from(args.network)?,
            videos: args.videos,
            top: args.top,
            sampling: Sampling::try_from(args.sampling)?,
            window_seconds: args.window,
            hop_seconds: args.hop,
            timeline: args.timeline,
            policy: PolicyChoice::read(&args.policy)?,
            json: args.json,
            loader: loader(args.loader)?,
            device: args.device.parse()?,
        })
    }
}

impl TryFrom<SamplingArgs> for Sampling {
    type Error = ConfigError;

    fn try_from(args: SamplingArgs) -> Result<Self, ConfigError> {
        let crops = args.crops.unwrap_or(1);
        if ![1, 3].contains(&crops) {
            return Err(ConfigError::field("--crops", crops, "1 or 3"));
        }
        if args.views == Some(0) {
            return Err(ConfigError::field("--views", 0, "1 or more"));
        }
        positive("--target-fps", args.target_fps)?;
        Ok(Self { views: args.views, crops, crop: args.crop, target_fps: args.target_fps })
    }
}

fn positive(flag: &'static str, value: Option<f64>) -> Result<(), ConfigError> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(ConfigError::field(flag, value, "above 0")),
        _ => Ok(()),
    }
}

fn loader(url: Option<String>) -> Result<Option<String>, ConfigError> {
    if let Some(url) = &url {
        let checked = proto::connect::endpoint(url, limits::DEFAULT_PATIENCE);
        checked.map_err(|error| ConfigError::other("--loader", error))?;
    }
    Ok(url)
}

impl TryFrom<NetworkArgs> for NetworkChoice {
    type Error = ConfigError;

    fn try_from(args: NetworkArgs) -> Result<Self, ConfigError> {
        match (args.weights, args.run) {
            (Some(file), None) => Ok(Self::Weights(file)),
            (None, Some(run)) => Ok(Self::Run {
                run: run.parse().map_err(|error| ConfigError::other("--run", error))?,
                which: which(&args.checkpoint)?,
                store: args.store,
            }),
            _ => Err(ConfigError::other("--weights", "give either a file, or a run with --run")),
        }
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

    fn network(weights: Option<&str>, run: Option<&str>) -> NetworkArgs {
        NetworkArgs {
            weights: weights.map(PathBuf::from),
            run: run.map(str::to_owned),
            store: ".vared".to_owned(),
            checkpoint: "150".to_owned(),
        }
    }

    #[test]
    fn a_network_is_a_file_or_a_run() {
        let choice = NetworkChoice::try_from(network(Some("a.safetensors"), None)).expect("a file");
        assert_eq!(choice, NetworkChoice::Weights("a.safetensors".into()));
        let choice = NetworkChoice::try_from(network(None, Some("demo"))).expect("a run");
        assert!(matches!(choice, NetworkChoice::Run { which: Which::Step(150), .. }), "{choice:?}");
        for (weights, run) in [(None, None), (Some("a"), Some("b"))] {
            let error = NetworkChoice::try_from(network(weights, run)).expect_err("neither or both").to_string();
            assert_eq!(error, "--weights: give either a file, or a run with --run");
        }
    }

    #[test]
    fn a_policy_is_a_word_a_text_or_a_file() {
        assert_eq!(PolicyChoice::read("skip"), Ok(PolicyChoice::Skip));
        let text = r#"{"*": {"time": 1}}"#;
        assert_eq!(PolicyChoice::read(text), Ok(PolicyChoice::Forced(text.to_owned())));
        let error = PolicyChoice::read("no/such.json").expect_err("no file").to_string();
        assert!(
            error.starts_with("--policy: full, soft, skip or a file is wanted; can't read no/such.json"),
            "{error}"
        );
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

    fn eval(flags: &[&str]) -> Result<EvalConfig, ConfigError> {
        use clap::Parser;
        let line = [&["worker", "eval"], flags].concat();
        let crate::args::Command::Eval(args) =
            crate::args::Args::try_parse_from(line).expect("flags are known").command
        else {
            panic!("another command");
        };
        EvalConfig::try_from(args)
    }

    #[test]
    fn the_middle_is_looked_at_unless_something_else_is_asked_for() {
        assert_eq!(eval(&["--run", "demo"]).expect("good").sampling.views, None);
        assert_eq!(eval(&["--run", "demo", "--crops", "3"]).expect("good").sampling.views, Some(1));
        assert_eq!(eval(&["--run", "demo", "--views", "10"]).expect("good").sampling.views, Some(10));
    }

    #[test]
    fn wrong_ways_to_look_are_named_with_their_flag() {
        let refused = |flags: &[&str]| eval(flags).expect_err("refused").to_string();
        assert_eq!(refused(&["--run", "demo", "--crops", "2"]), "--crops is 2: it must be 1 or 3");
        assert_eq!(refused(&["--run", "demo", "--target-fps", "0"]), "--target-fps is 0: it must be above 0");
        assert_eq!(refused(&["--weights", "w"]), "--weights: give a data set too, with --data");
    }
}
