//! The command line, as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// One device of a vared run.
#[derive(Debug, Parser)]
#[command(name = "worker", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a worker can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a run and compute for it until it ends.
    Run(RunArgs),
    /// Turn published weights (.pth, .pyth, .safetensors) into a file that every command here can use.
    Import(ImportArgs),
    /// Write a network's weights for others: safetensors under published names, or a TorchScript program.
    Export(ExportArgs),
    /// Tensors in, tensors out: logits, gate weights and, if asked, the output of every layer.
    Forward(ForwardArgs),
    /// Show what each layer costs: shape, parameters, multiply-adds, activations and measured time.
    Profile(ProfileArgs),
    /// Evaluate a network on held-out videos by skipping inference, and write a summary.
    Eval(EvalArgs),
    /// Name what videos show, with what each layer computed for it.
    Predict(PredictArgs),
}

/// Which network to use: weights that say themselves what they are, or a run's checkpoint.
#[derive(Debug, Clone, clap::Args)]
pub struct NetworkArgs {
    /// Weights with a card, as `worker import` and `worker export` write them.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub weights: Option<PathBuf>,
    /// A run, instead: its recipe says the network, its checkpoint holds the weights.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// The store that holds the run.
    #[arg(long, value_name = "URL", default_value = ".vared")]
    pub store: String,
    /// Which checkpoint of the run: latest, or a step.
    #[arg(long, value_name = "STEP", default_value = "latest")]
    pub checkpoint: String,
}

/// Options of `worker import`.
#[derive(Debug, Parser)]
pub struct ImportArgs {
    /// The weights: what torch.save wrote of a state dict or a checkpoint, or safetensors. Nothing in it is executed.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write; by default beside FILE, as .vared.safetensors.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The network, by its published name; by default it is found out from names and shapes. An unknown name lists all.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The classes: a file with a name a line, in the order of their labels, or a number.
    #[arg(long, value_name = "FILE|N")]
    pub classes: Option<String>,
    /// The head: keep the file's, or let a new one start for the classes.
    #[arg(long, value_name = "HEAD", value_enum, default_value_t = HeadChoice::Keep)]
    pub head: HeadChoice,
    /// Add gates and cheap kernels, to be trained.
    #[arg(long)]
    pub dynamic: bool,
    /// Frames of a test clip, if other than published.
    #[arg(long, value_name = "N")]
    pub frames: Option<u32>,
    /// Distance between two of them in the video, in frames.
    #[arg(long, value_name = "N")]
    pub stride: Option<u32>,
    /// Short side that a frame is scaled to, in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub short_side: Option<u32>,
    /// Side of the square crop, in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub crop: Option<u32>,
}

/// What becomes of the head of imported weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HeadChoice {
    /// It is the file's.
    Keep,
    /// It starts anew.
    New,
}

/// Options of `worker export`.
#[derive(Debug, Parser)]
pub struct ExportArgs {
    /// Which network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Where to write.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// As what: weights, or a program that PyTorch and libtorch run without vared.
    #[arg(long, value_enum, default_value_t = ExportFormat::Safetensors)]
    pub format: ExportFormat,
    /// Of a TorchScript program: what its dynamic layers compute, for every clip. `full`, a policy file or its text.
    #[arg(long, value_name = "POLICY", default_value = "full")]
    pub policy: String,
    /// Leave gates and cheap kernels out: the plain backbone.
    #[arg(long)]
    pub backbone_only: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// Weights by name, with a card.
    Safetensors,
    /// A program, traced at one policy.
    Torchscript,
}

/// Options of `worker forward`.
#[derive(Debug, Parser)]
pub struct ForwardArgs {
    /// Which network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Safetensors with a tensor `clips`: floats [n, 3, t, h, w] already normalised, or bytes [n, t, h, w, 3].
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// How dynamic layers decide: `skip`, `soft`, `full`, a policy file or its text.
    #[arg(long, value_name = "POLICY", default_value = "skip")]
    pub policy: String,
    /// Where to write: `logits`, `gates.LAYER.time`, `gates.LAYER.channel` and, with --features, `features.LAYER`.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Write the output of every layer too.
    #[arg(long)]
    pub features: bool,
    /// Where to compute: cpu, cuda:N, or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

/// Options of `worker profile`.
#[derive(Debug, Parser)]
pub struct ProfileArgs {
    /// Which network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// A published network by name instead, with random weights and all its convolutions dynamic.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["weights", "run"])]
    pub model: Option<String>,
    /// How dynamic layers decide: `full`, `skip`, `soft`, a policy file or its text.
    #[arg(long, value_name = "POLICY", default_value = "full")]
    pub policy: String,
    /// Shape of a clip, frames × height × width; by default that of the network's test clips.
    #[arg(long, value_name = "TxHxW")]
    pub clip: Option<String>,
    /// Clips in a batch.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: u32,
    /// Timed passes; medians count.
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub repeats: u32,
    /// CPU threads to compute with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: u32,
    /// Where to write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where to compute: cpu, cuda:N, or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

/// Options of `worker run`.
#[derive(Debug, Parser)]
pub struct RunArgs {
    /// Where the coordinator listens.
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    /// This worker's seat; stays the same over restarts.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Where to compute: cpu, cuda:N, or auto (the first GPU, else the CPU).
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// How many steps ahead clips are asked for.
    #[arg(long, value_name = "STEPS", default_value_t = 4)]
    pub prefetch: u32,
}

/// How videos are looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct SamplingArgs {
    /// Clips in time of each video, placed by PySlowFast's rule: clip k of K starts at k/K of what the video is longer than
    /// a clip. Probabilities are averaged over all clips of a video.
    #[arg(long, value_name = "K")]
    pub views: Option<u32>,
    /// Squares of each clip: 1, the centre; or 3, both ends of the long side and the centre, the short side scaled to them.
    #[arg(long, value_name = "1|3")]
    pub crops: Option<u32>,
    /// Side of the squares, in pixels, if other than the network's own.
    #[arg(long, value_name = "PIXELS")]
    pub crop: Option<u32>,
    /// Count the stride between frames at this rate instead of the video's own.
    #[arg(long, value_name = "FPS")]
    pub target_fps: Option<f64>,
}

/// Options of `worker eval`.
#[derive(Debug, Parser)]
#[command(after_help = EVAL_EXAMPLES)]
pub struct EvalArgs {
    /// Which network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Another run to compare with, usually its plain backbone.
    #[arg(long, value_name = "RUN", requires = "run")]
    pub baseline: Option<String>,
    /// A packed data set to evaluate on, all of it: a folder, file:///…, s3://BUCKET/PREFIX. By default the held-out clips
    /// that the run names.
    #[arg(long, value_name = "URL", conflicts_with = "loader")]
    pub data: Option<String>,
    /// How videos are looked at. Without any of these: one clip, the middle of the video, as in the run's own validation.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where to write the summary as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where to write a report: one page with pictures, to be opened in a browser.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Only so many held-out videos, evenly spread.
    #[arg(long, value_name = "N")]
    pub clips: Option<u64>,
    /// A running loader to ask, instead of starting one.
    #[arg(long, value_name = "URL")]
    pub loader: Option<String>,
    /// Where to compute: cpu, cuda:N, or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

const EVAL_EXAMPLES: &str = "Examples:
  worker eval --run demo --baseline demo-backbone --report report.html
  worker eval --run first --store s3://bucket/vared --views 10 --crops 3 --json result.json
  worker eval --weights x3d_m.vared.safetensors --data s3://bucket/k400/val --views 10 --crops 3 --crop 256";

/// Options of `worker predict`.
#[derive(Debug, Parser)]
#[command(after_help = PREDICT_EXAMPLES)]
pub struct PredictArgs {
    /// Video files, folders of them (searched with their sub-folders), or - for a video on standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub videos: Vec<PathBuf>,
    /// Which network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// How many classes to name.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub top: usize,
    /// How videos are looked at.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Without --views, windows slide over the whole video: the stretch that each clip is spread over, in seconds. By
    /// default a clip's own length, frames × stride.
    #[arg(long, value_name = "SECONDS", conflicts_with = "views")]
    pub window: Option<f64>,
    /// From the start of one window to that of the next, in seconds. By default the window: they lie side by side.
    #[arg(long, value_name = "SECONDS", conflicts_with = "views")]
    pub hop: Option<f64>,
    /// Say what is seen when, too.
    #[arg(long, conflicts_with = "json")]
    pub timeline: bool,
    /// How dynamic layers decide: `skip`, `soft`, `full`, a policy file or its text.
    #[arg(long, value_name = "POLICY", default_value = "skip")]
    pub policy: String,
    /// One JSON object a line for every video, with every window and every layer.
    #[arg(long)]
    pub json: bool,
    /// A running loader to ask, instead of starting one.
    #[arg(long, value_name = "URL")]
    pub loader: Option<String>,
    /// Where to compute: cpu, cuda:N, or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

const PREDICT_EXAMPLES: &str =
    "GMAC are 10^9 multiply-adds. A video that can't be read is named on stderr, the others go on, and the exit code
is 1 at the end.

Examples:
  worker predict --run demo clip.mp4
  worker predict --weights x3d_m.vared.safetensors --views 10 --crops 3 videos/ --json > answers.jsonl
  worker predict --run first --hop 0.5 --timeline match.mkv
  curl -s https://example.org/a.mp4 | worker predict --run first -";
