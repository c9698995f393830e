//! Weights to PyTorch and back: the proof that needs Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// What the script imports. The versions are those of the committed golden files.
const PACKAGES: [&str; 4] = ["torch==2.11.0", "torchvision==0.26.0", "safetensors", "numpy"];
const SCRIPT: &str = "libs/models/tests/interop/interop.py";

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct InteropArgs {
    /// A Python that has torch 2.11, torchvision and safetensors; without it an environment is made below target/, from the
    /// index that pip is configured for
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

/// Builds the worker, makes an environment if none is given, and runs the script.
pub fn run(workspace: &Workspace, args: &InteropArgs) -> Result<()> {
    let folder = workspace.root().join("target/interop");
    let python = match &args.python {
        Some(python) => python.clone(),
        None => environment(&folder.join("venv"))?,
    };
    process::run(workspace.cargo().args(["build", "--locked", "--package", "worker"]), "building the worker")?;
    let mut script = Command::new(python);
    // What golden scripts leave behind in the sources is nobody's.
    script.arg("-B").arg(workspace.root().join(SCRIPT)).arg(workspace.root().join("target/debug/worker"));
    process::run(script.arg(folder.join("files")), "exchanging weights with PyTorch")
}

/// The Python of an environment with all packages; made once.
fn environment(venv: &Path) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    if !python.is_file() {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(venv), "making a Python environment")?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    process::run(&mut pip, "installing PyTorch with pip")?;
    Ok(python)
}
