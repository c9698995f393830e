//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as Flags, Parser, Subcommand};

/// Turns videos in an object store into the clips that workers train on.
///
/// Exit codes: 0 done; 1 failed, or clips were left out; 75 come back later (the coordinator is away); 78 wrong
/// configuration, nothing was done.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a `dataloader` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the clips of a run to its workers.
    ///
    /// Joins the coordinator, opens the run's data set and answers workers until the run ends. A coordinator with
    /// `--workers N` starts its own loader; start more by hand (or by the Helm chart) when workers wait for data.
    /// Settings of the run (which clips, frames, crops) are in the recipe, which the coordinator sends.
    Serve(ServeArgs),
    /// Make a data set of your own videos: WebDataset shards, and an index that lists them.
    ///
    /// Videos come from a folder with one sub-folder a class, from a list, from the official Kinetics csv or from
    /// WebDataset shards; on this machine or in a store. Every file is decoded once on the way; broken ones are named
    /// and left out. The index is written last: before that there is no data set at the URL.
    ///
    /// Killed, or stopped by Ctrl-C? The same command goes on after the last finished shard. The objects are the same
    /// bytes whatever the number of jobs and however often it was killed.
    ///
    /// Memory: --memory-mib for videos, three times --shard-mib for shards, and about 1 KB for each listed video; beside
    /// that a decoder for each job, a process of its own: about 50 MB for small videos, 2 GiB at most.
    ///
    /// Exit codes: 0 all clips are packed; 1 some were left out (the data set is complete without them), or it failed;
    /// 75 stopped, go on with the same command; 78 the list or a flag is wrong, nothing was written.
    #[command(after_help = PACK_EXAMPLES)]
    Pack(PackArgs),
    /// Compare a data set with its index: is every clip there, unchanged, and does it decode?
    ///
    /// For each clip: its object exists and is long enough, the checksum is that of the index, it decodes, its size and
    /// number of frames are those of the index. Every bad clip is named with its reason.
    ///
    /// Exit codes: 0 all are good; 1 some are bad, each was named; 75 stopped, or the store does not answer; 78 there is
    /// no data set, or a flag is wrong.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Write the index over videos or WebDataset shards that are in a store already; nothing is copied.
    ///
    /// The classes are those of the folders, of the shards' labels, or of a list whose paths are relative to the URL.
    /// Every video is read and decoded once. Killed? The same command goes on.
    ///
    /// Exit codes: as of `pack`.
    #[command(after_help = INDEX_EXAMPLES)]
    Index(IndexArgs),
    /// Make the labelled demo data set: short clips under eight camera motions, the motion is the label.
    ///
    /// Cut by the `ffmpeg` program from the videos in a folder (train and held-out clips from different videos), or
    /// from footage that is rendered where no folder is given. Takes about a minute on two cores. Equal seeds give
    /// equal clips. Writes URL/train and URL/val; where both are there already, nothing is done.
    Demo(DemoArgs),
    /// Show what a model would see of a clip, as one picture.
    ///
    /// Writes a contact sheet (PNG): a row of the clip's own frames, a row as it is seen when it is held out, and a row for
    /// each seed of a random view in training, with all augmentation of the recipe. Says of each row what it is.
    #[command(after_help = VIEW_EXAMPLES)]
    View(ViewArgs),
    /// Measure the stages of a loader over a data set, and say what a target takes.
    ///
    /// Fetch, decode, transform and batch run by themselves, then together, as `serve` runs them but without caches. Says
    /// how many clips a second each makes, which of them is the bottleneck, and how many loader cores, requests and bytes
    /// so many clips a second take. Nothing is written.
    ///
    /// Every figure is the median of five rounds, with the least and the most beside it: where these lie far apart the
    /// machine is busy with other things. On a local disk the second round reads from the kernel's memory.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// A decoder of a loader, which starts it: see `serve --decode-threads`.
    #[command(hide = true)]
    DecodeChild(DecodeChildArgs),
}

const PACK_EXAMPLES: &str = "\
What --from may name:
  DIR             a sub-folder a class, searched with all that is below
  LIST            a line `path label` a clip (space, tab or comma between; the label is a number or a class name; a
                  path with the separator in it may be quoted), or mmaction's `path total_frames label`
  KINETICS.csv    the official one: label,youtube_id,time_start,time_end,split; the files are found below --root
                  by their names, <id>_<start>_<end>.mp4 (six digits each) or <id>.mp4, in whatever folders
  DIR of .tar     a WebDataset: members <key>.mp4 and <key>.cls, .json (with \"label\") or .txt; also a single .tar

Examples:
  dataloader pack --from videos/train --to .vared/data/mine/train \\
                  --val-from videos/val --val-to .vared/data/mine/val
  dataloader pack --from train.csv --to s3://bucket/k400/train --classes names.txt
  dataloader pack --from k400/train.csv --root k400/videos --keep-going --report missing.json \\
                  --reencode 256 --to s3://bucket/k400-256/train
  dataloader pack --from s3://bucket/shards --to s3://bucket/mine/train --dry-run";

const CHECK_EXAMPLES: &str = "Examples:
  dataloader check .vared/data/mine/train
  dataloader check s3://bucket/k400/train --state k400.check --json > k400.json";

const INDEX_EXAMPLES: &str = "Examples:
  dataloader index s3://bucket/webdataset/train --classes names.txt
  dataloader index s3://bucket/videos --list train.csv";

const VIEW_EXAMPLES: &str = "Examples:
  dataloader view .vared/data/mine/train run/0001
  dataloader view s3://bucket/k400/train abseiling/x1y2 --recipe recipes/kinetics400-x3d-m.toml --seeds 8 --out clip.png";

const BENCH_EXAMPLES: &str = "Examples:
  dataloader bench s3://bucket/k400/train --target 2000
  dataloader bench .vared/data/mine/train --recipe recipes/kinetics400-x3d-m.toml --seconds 10 --json";

/// Flags of `serve`.
#[derive(Debug, Clone, Flags)]
pub struct ServeArgs {
    /// The coordinator's address.
    #[arg(long, value_name = "http://HOST:PORT")]
    pub coordinator: String,
    /// Where to wait for workers; port 0 takes any free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The address that workers dial, if it is not the one above.
    #[arg(long, value_name = "http://HOST:PORT")]
    pub advertise: Option<String>,
    /// Name of this loader in messages; the same after a restart.
    #[arg(long, default_value = "loader-0")]
    pub name: String,
    /// Clips that are decoded at a time, each in a process of its own [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=crate::config::MAX_DECODE_THREADS))]
    pub decode_threads: Option<u64>,
    /// Memory that one of these processes may ask for, MiB. A clip that wants more is left out like a broken one.
    #[arg(long, value_name = "MIB", default_value_t = crate::decoder::DEFAULT_MEMORY_MIB,
          value_parser = clap::value_parser!(u64).range(128..=1 << 20))]
    pub decode_memory_mib: u64,
    /// How long a clip may take to decode. One that takes longer is left out like a broken one [default: 30, and 2 more
    /// for each MiB of its file, up to 120].
    #[arg(long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=crate::decoder::MAX_DEADLINE_SECONDS))]
    pub decode_seconds: Option<u64>,
    /// Memory for video files, so that later epochs do not read the store again, MiB. When it is full nothing more is kept.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub file_cache_mib: u64,
    /// Folder for video files, on a disk of this machine, so that later epochs and runs do not read the store again. Each
    /// loader needs one of its own; it stays when the loader ends, and may be deleted then.
    #[arg(long, value_name = "DIR")]
    pub disk_cache: Option<PathBuf>,
    /// How much of the disk it may take, MiB. When it is full nothing more is kept.
    #[arg(long, value_name = "MIB", default_value_t = 16384, requires = "disk_cache",
          value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub disk_cache_mib: u64,
    /// Memory for video files that are read before they are wanted, MiB: those of the batches that workers have asked for
    /// and that are not begun yet, in their order. Hides the time that a store takes to answer; 0 reads each file when a
    /// decoder is free for it.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub read_ahead_mib: u64,
    /// Memory for decoded frames, used for data sets that fit into it as a whole, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub frame_cache_mib: u64,
}

/// Flags of commands that decode whole videos: how much of the machine they take.
#[derive(Debug, Clone, Flags)]
pub struct EffortArgs {
    /// Videos that are decoded side by side [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub jobs: Option<u64>,
    /// Memory for videos that are being read and decoded, MiB. A larger one goes alone.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub memory_mib: u64,
    /// How decoders are started: not a flag.
    #[arg(skip = crate::decoder::Settings::of_this_program())]
    pub decoder: crate::decoder::Settings,
}

/// Flags of commands that write an index: what becomes of videos that are not in it.
#[derive(Debug, Clone, Flags)]
pub struct LeftOutArgs {
    /// Write what was taken in, and each video that was not with its reason, to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Go on without missing files, and end with 0 although clips were left out.
    #[arg(long)]
    pub keep_going: bool,
}

/// Flags of `pack`.
#[derive(Debug, Clone, Flags)]
pub struct PackArgs {
    /// The videos and their classes; see below.
    #[arg(long, value_name = "DIR|LIST|URL")]
    pub from: String,
    /// Where the data set goes: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Held-out clips, packed with the same classes.
    #[arg(long, value_name = "DIR|LIST|URL", requires = "val_to")]
    pub val_from: Option<String>,
    /// Where the held-out clips go.
    #[arg(long, value_name = "URL", requires = "val_from")]
    pub val_to: Option<String>,
    /// Class names, one a line, in the order of their labels [default: the names found, sorted].
    #[arg(long, value_name = "FILE")]
    pub classes: Option<String>,
    /// Folder or URL that the files of a list are below [default: where the list is].
    #[arg(long, value_name = "DIR|URL")]
    pub root: Option<String>,
    /// Rows of a Kinetics csv to take.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// The same for --val-from.
    #[arg(long, value_name = "NAME", requires = "val_from")]
    pub val_split: Option<String>,
    /// Pack the files as they are, not a byte is changed: the default.
    #[arg(long, conflicts_with = "reencode")]
    pub keep: bool,
    /// Encode anew with this short side (smaller videos keep their size): H.264, a key frame every 16 frames, no
    /// B-frames, no sound. Costs time once; afterwards clips decode several times as fast. Needs the ffmpeg program.
    #[arg(long, value_name = "SIDE", value_parser = crate::config::short_side)]
    pub reencode: Option<u32>,
    /// Size at which a shard is closed, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub shard_mib: u64,
    /// How much of the machine it takes.
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Only check the list: every line is looked at and every file looked for, nothing is decoded or written.
    #[arg(long)]
    pub dry_run: bool,
    /// What becomes of videos that are left out.
    #[command(flatten)]
    pub left_out: LeftOutArgs,
    /// Replace a data set, or an unfinished pack of other videos, that is there already.
    #[arg(long)]
    pub replace: bool,
}

/// Flags of `check`.
#[derive(Debug, Clone, Flags)]
pub struct CheckArgs {
    /// The data set: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Keep in this file how far the check is: after any end, a kill too, the same command goes on. It is removed when
    /// all is checked.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Print one JSON object instead of lines: url, digest, clips, bytes, decoded, bad [clip, key, object, fault, reason].
    #[arg(long)]
    pub json: bool,
    /// Only read and compare checksums.
    #[arg(long)]
    pub no_decode: bool,
    /// How much of the machine it takes.
    #[command(flatten)]
    pub effort: EffortArgs,
}

/// Flags of `index`.
#[derive(Debug, Clone, Flags)]
pub struct IndexArgs {
    /// Where the videos or shards are, and the index will be: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Which videos there, and their classes: a list as `pack --from` takes it [default: a folder a class, or shards].
    #[arg(long, value_name = "LIST|URL")]
    pub list: Option<String>,
    /// Rows of a Kinetics csv to take.
    #[arg(long, value_name = "NAME", requires = "list")]
    pub split: Option<String>,
    /// Class names, one a line, in the order of their labels [default: the names found, sorted].
    #[arg(long, value_name = "FILE")]
    pub classes: Option<String>,
    /// How much of the machine it takes.
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Only check the list and look for the files.
    #[arg(long)]
    pub dry_run: bool,
    /// What becomes of videos that are left out.
    #[command(flatten)]
    pub left_out: LeftOutArgs,
    /// Replace an index that is there already.
    #[arg(long)]
    pub replace: bool,
}

/// Flags of `demo`.
#[derive(Debug, Clone, Flags)]
pub struct DemoArgs {
    /// Where the data set goes: a folder, file:///…, s3://BUCKET/PREFIX; below it `train` and `val`.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Folder with real videos to cut from, searched with its sub-folders.
    #[arg(long, value_name = "DIR")]
    pub footage: Option<PathBuf>,
    /// Another seed cuts other clips.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Training clips of each of the eight classes.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub train_clips: u32,
    /// Held-out clips of each class.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub val_clips: u32,
    /// Make it anew where it is there already.
    #[arg(long)]
    pub replace: bool,
    /// How decoders are started: not a flag.
    #[arg(skip = crate::decoder::Settings::of_this_program())]
    pub decoder: crate::decoder::Settings,
}

/// Flags of `view`.
#[derive(Debug, Clone, Flags)]
pub struct ViewArgs {
    /// Where the data set is, as `pack` wrote it: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The clip's key, as messages and batches name it.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The recipe whose `[data]` section says what a model sees [default: 16 frames of 112 x 112 at stride 4, as
    /// recipes/kinetics400-r2plus1d18.toml has it].
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Random views of training to show, one a row.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub seeds: u32,
    /// The picture [default: the key's last part and .png, in the current folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Flags of `bench`.
#[derive(Debug, Clone, Flags)]
pub struct BenchArgs {
    /// The data set: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The recipe whose `[data]` section says what a clip is and what is read of it [default: 16 frames of 112 x 112 at
    /// stride 4, as recipes/kinetics400-r2plus1d18.toml has it].
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Clips a second that loaders must make together [default: what this machine makes].
    #[arg(long, value_name = "CLIPS", value_parser = crate::config::positive)]
    pub target: Option<f64>,
    /// How long each stage is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = crate::config::positive)]
    pub seconds: f64,
    /// Look at so many clips again and again [default: at others each time, in the order of a run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub clips: Option<u64>,
    /// Decoders that run together, as `serve --decode-threads` [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub jobs: Option<u64>,
    /// Print one JSON object instead: stages (clips a second: median, low, high), a_clip, bottleneck, needs.
    #[arg(long)]
    pub json: bool,
    /// How decoders are started: not a flag.
    #[arg(skip = crate::decoder::Settings::of_this_program())]
    pub decoder: crate::decoder::Settings,
}

/// Flags of `decode-child`.
#[derive(Debug, Clone, Flags)]
pub struct DecodeChildArgs {
    /// Memory that it may ask for.
    #[arg(long, value_name = "BYTES")]
    pub memory_bytes: u64,
}
