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
    /// Make a data set of your own videos: shards, and an index that lists them.
    ///
    /// Videos come from a folder with one sub-folder a class, or from a list of `path label` lines as Kinetics has
    /// them. The files' bytes stay as they are. Every file is decoded once on the way; broken ones are named and left
    /// out. The index is written last: before that there is no data set at the URL.
    ///
    /// Exit codes: 0 all clips are packed; 1 some were left out (the data set is complete without them), or it failed;
    /// 78 the list or a flag is wrong, nothing was written.
    #[command(after_help = PACK_EXAMPLES)]
    Pack(PackArgs),
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
    /// A decoder of a loader, which starts it: see `serve --decode-threads`.
    #[command(hide = true)]
    DecodeChild(DecodeChildArgs),
}

const PACK_EXAMPLES: &str = "Examples:
  dataloader pack --from videos/train --to .vared/data/mine/train \\
                  --val-from videos/val --val-to .vared/data/mine/val
  dataloader pack --from train.csv --to s3://bucket/k400/train --classes names.txt";

const VIEW_EXAMPLES: &str = "Examples:
  dataloader view .vared/data/mine/train run/0001
  dataloader view s3://bucket/k400/train abseiling/x1y2 --recipe recipes/kinetics400-x3d-m.toml --seeds 8 --out clip.png";

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
    /// Memory for video files, so that later epochs do not read the store again, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub file_cache_mib: u64,
    /// Memory for decoded frames, used for data sets that fit into it as a whole, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub frame_cache_mib: u64,
}

/// Flags of `pack`.
#[derive(Debug, Clone, Flags)]
pub struct PackArgs {
    /// A folder with one sub-folder a class, or a list with a line `path label` a clip (separated by a space, a tab or
    /// a comma; the label is a number or a class name; a path with the separator in it may be quoted).
    #[arg(long, value_name = "DIR|LIST")]
    pub from: PathBuf,
    /// Where the data set goes: a folder, file:///…, s3://BUCKET/PREFIX.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Held-out clips, packed with the same classes.
    #[arg(long, value_name = "DIR|LIST", requires = "val_to")]
    pub val_from: Option<PathBuf>,
    /// Where the held-out clips go.
    #[arg(long, value_name = "URL", requires = "val_from")]
    pub val_to: Option<String>,
    /// Class names, one a line, in the order of their labels [default: the names found, sorted].
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Folder that the paths of a list are relative to [default: the folder of the list].
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Size at which a shard is closed, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub shard_mib: u64,
    /// Go on without missing files, and end with 0 although clips were left out.
    #[arg(long)]
    pub keep_going: bool,
    /// Replace a data set that is there already.
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

/// Flags of `decode-child`.
#[derive(Debug, Clone, Flags)]
pub struct DecodeChildArgs {
    /// Memory that it may ask for.
    #[arg(long, value_name = "BYTES")]
    pub memory_bytes: u64,
}
