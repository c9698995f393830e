//! Set-up: everything outside cargo's reach that a build needs, fetched or checked, with one line for each thing.

mod layout;
mod stamp;
mod system;
mod wheels;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use self::layout::Layout;
pub use self::wheels::{Rule, Wheel, fetch};
use crate::process;
use crate::workspace::Workspace;

/// What libtorch is to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU only.
    Cpu,
    /// Nvidia GPUs, and the CPU.
    Cuda,
}

impl Device {
    /// CUDA where a GPU of Nvidia's is seen.
    pub fn seen_here() -> Self {
        let gpu = Path::new("/dev/nvidia0").exists() || process::succeeds(Command::new("nvidia-smi").arg("-L"));
        if gpu { Self::Cuda } else { Self::Cpu }
    }
}

/// One set-up: where to, and what.
pub struct Setup {
    deps: PathBuf,
    layouts: Vec<&'static Layout>,
}

impl Setup {
    /// Puts things into the folder `deps`.
    pub fn new(deps: PathBuf, device: Device) -> Self {
        let layouts = match device {
            Device::Cpu => vec![&layout::CPU],
            Device::Cuda => vec![&layout::CPU, &layout::CUDA],
        };
        Self { deps, layouts }
    }

    /// The set-up that builds of this checkout look for, for the devices of this machine.
    pub fn of(workspace: &Workspace) -> Self {
        Self::new(workspace.root().join(".deps"), Device::seen_here())
    }

    /// With the compiler of CUDA's language, too.
    pub fn with_nvcc(mut self) -> Self {
        self.layouts.push(&layout::NVCC);
        self
    }

    /// Checks each thing and fetches what is missing.
    pub fn run(&self) -> Result<()> {
        let start = Instant::now();
        warn_of_overrides();
        system::ensure()?;
        fs::create_dir_all(&self.deps).with_context(|| format!("creating the folder {}", self.deps.display()))?;
        let _lock = self.lock()?;
        for layout in &self.layouts {
            layout::ensure(layout, &self.deps)?;
        }
        eprintln!("set up in {}", process::spell(start.elapsed()));
        Ok(())
    }

    /// Held while files are put in place: a second set-up in the same checkout waits, then finds everything there.
    fn lock(&self) -> Result<File> {
        let path = self.deps.join(".lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another set-up of this checkout to end ({} is locked)", path.display());
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Ok(file)
    }
}

/// Cargo lets these variables replace what `.cargo/config.toml` says, silently; the binaries then miss libtorch.
fn warn_of_overrides() {
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
        if env::var_os(name).is_some() {
            eprintln!(
                "warning: {name} is set and replaces the linker flags of .cargo/config.toml; binaries will not find \
                 libtorch unless it repeats them. Unset it, or add them to it"
            );
        }
    }
    for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
        if env::var_os(name).is_some() {
            eprintln!(
                "warning: {name} moves target/ away from the checkout; binaries look for libtorch in \
                 ../../.deps/libtorch/lib beside themselves. Unset it, or set LD_LIBRARY_PATH when running them"
            );
        }
    }
}
