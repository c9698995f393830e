//! The service's settings, checked.

use std::net::SocketAddr;
use std::time::Duration;

use crate::actors::fetch::DiskSpace;
use crate::args::{PackArgs, ServeArgs};
use crate::commands::pack::plan;
use crate::decoder::Settings;

/// How one loader serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// URL of the coordinator.
    pub coordinator: String,
    /// Where workers dial this loader; empty: whatever address it listens on.
    pub advertise: String,
    /// Name of this seat.
    pub name: String,
    /// How many clips are decoded at a time.
    pub decode_threads: usize,
    /// How decoders are started, and what they are allowed.
    pub decoder: Settings,
    /// Memory for video files.
    pub file_cache_bytes: u64,
    /// A folder for video files, if any.
    pub disk_cache: Option<DiskSpace>,
    /// Memory for video files that are read before they are wanted.
    pub read_ahead_bytes: u64,
    /// Memory for decoded frames.
    pub frame_cache_bytes: u64,
    /// How long the coordinator may be away before the first answer says otherwise.
    pub patience: Duration,
}

/// A setting that can't be.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// Not a URL that can be dialled.
    #[error("--{flag}: {reason}")]
    Address {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Listening on every interface tells nobody where to dial.
    #[error("--listen is {listen}, which no worker can dial: give --advertise http://HOST:PORT as well")]
    Unspecified {
        /// The address.
        listen: SocketAddr,
    },
    /// A name that would break logs and identifiers.
    #[error("--name is {name:?}, but must be 1 to 64 letters, digits, '-', '_' or '.'")]
    Name {
        /// As given.
        name: String,
    },
}

/// Most threads that `--decode-threads` allows.
pub const MAX_DECODE_THREADS: u64 = 1024;

const MIB: u64 = 1 << 20;

impl TryFrom<ServeArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let dialled = |flag, url: &str| {
            proto::connect::endpoint(url, PATIENCE)
                .map(|_| ())
                .map_err(|error| ConfigError::Address { flag, reason: error.to_string() })
        };
        dialled("coordinator", &args.coordinator)?;
        match &args.advertise {
            Some(url) => dialled("advertise", url)?,
            None if args.listen.ip().is_unspecified() => {
                return Err(ConfigError::Unspecified { listen: args.listen });
            }
            None => {}
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=64).contains(&args.name.len()) || !args.name.chars().all(fits) {
            return Err(ConfigError::Name { name: args.name });
        }
        Ok(Self {
            coordinator: args.coordinator,
            advertise: args.advertise.unwrap_or_default(),
            name: args.name,
            decode_threads: args.decode_threads.map_or_else(cores, |n| n as usize),
            decoder: Settings {
                memory_bytes: args.decode_memory_mib * MIB,
                deadline: args.decode_seconds.map(Duration::from_secs),
                ..Settings::of_this_program()
            },
            file_cache_bytes: args.file_cache_mib * MIB,
            disk_cache: args.disk_cache.map(|folder| DiskSpace { folder, bytes: args.disk_cache_mib * MIB }),
            read_ahead_bytes: args.read_ahead_mib * MIB,
            frame_cache_bytes: args.frame_cache_mib * MIB,
            patience: PATIENCE,
        })
    }
}

impl PackArgs {
    /// How the data sets are packed.
    pub fn settings(&self) -> plan::Settings {
        plan::Settings {
            mode: self.reencode.map_or(plan::Mode::Keep, plan::Mode::Reencode),
            shard_bytes: self.shard_mib * MIB,
            jobs: jobs(self.effort.jobs),
            memory_bytes: self.effort.memory_mib * MIB,
        }
    }
}

/// How many videos are worked on side by side.
pub fn jobs(asked: Option<u64>) -> usize {
    asked.map_or_else(cores, |n| n as usize)
}

/// The short side of a video that is encoded anew: the colours of H.264 come in blocks of two pixels.
pub fn short_side(text: &str) -> Result<u32, String> {
    let side = text.parse::<u32>().ok().filter(|side| (32..=2160).contains(side) && side.is_multiple_of(2));
    side.ok_or_else(|| "it must be an even number of pixels from 32 to 2160, such as 128, 256 or 320".to_owned())
}

/// A number that something can be divided by.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1e-3..=1e9).contains(number));
    number.ok_or_else(|| "it must be a number from 0.001 to 1000000000".to_owned())
}

/// Until the coordinator says which patience the run has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Processor cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let line = [&["dataloader", "serve"], flags].concat();
        let Command::Serve(args) = Args::try_parse_from(line).expect("flags are known").command else {
            panic!("another command");
        };
        Config::try_from(args)
    }

    #[test]
    fn the_defaults_are_usable() {
        let config = config(&["--coordinator", "http://127.0.0.1:4100"]).expect("valid");
        assert!(config.decode_threads >= 1);
        assert_eq!((config.file_cache_bytes, config.frame_cache_bytes), (256 << 20, 1024 << 20));
    }

    #[test]
    fn each_refusal_names_the_flag() {
        let refusal = |flags: &[&str]| config(flags).expect_err("must be refused").to_string();
        assert!(refusal(&["--coordinator", "nowhere"]).starts_with("--coordinator: \"nowhere\" is not an address"));
        let good = ["--coordinator", "http://h:1"];
        assert!(refusal(&[&good[..], &["--listen", "0.0.0.0:7000"]].concat()).contains("give --advertise"));
        assert!(refusal(&[&good[..], &["--name", "a b"]].concat()).starts_with("--name is \"a b\""));
        assert!(refusal(&[&good[..], &["--advertise", "h:1"]].concat()).starts_with("--advertise: "));
    }
}
