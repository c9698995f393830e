//! The chart's runs without a cluster: what it renders is started in network namespaces, as pods would be.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::chart;
use crate::process;
use crate::workspace::Workspace;

/// What makes namespaces and pods of them, and the Debian packages that bring it.
const NEEDS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("bwrap", "bubblewrap"), ("curl", "curl"), ("setpriv", "util-linux")];

#[derive(clap::Args)]
pub struct RehearseArgs {
    /// Where pods can't be made (no root, no namespaces, a program missing), say so and end well
    #[arg(long)]
    where_possible: bool,
}

/// Trains in namespaces beside an S3-compatible server, disturbs the run, and compares the weights.
pub fn run(workspace: &Workspace, args: &RehearseArgs) -> Result<()> {
    if let Err(why) = check(&NEEDS) {
        if args.where_possible {
            eprintln!("the rehearsal is left out: {why:#}");
            return Ok(());
        }
        return Err(why);
    }
    build(workspace, &["coordinator", "worker", "dataloader"])?;
    play(workspace, "rehearse.py", "target/rehearsal").context("target/rehearsal/pods has the log of each pod")
}

/// Builds a Debian root for each image that needs no registry, and runs it as a pod would be run.
pub fn images(workspace: &Workspace) -> Result<()> {
    check(&NEEDS)?;
    check(&[("debootstrap", "debootstrap")])?;
    build(workspace, &["coordinator", "dataloader"])?;
    play(workspace, "images.py", "target/images").context("target/images/run/pods has the log of each pod")
}

fn build(workspace: &Workspace, programs: &[&str]) -> Result<()> {
    let mut build = workspace.cargo();
    build.args(["build", "--locked"]).args(programs.iter().flat_map(|name| ["--package", name]));
    process::run(&mut build, "building the services")
}

/// Runs a script of `charts/rehearsal` with the chart's tools, the built programs and the server.
fn play(workspace: &Workspace, name: &str, folder: &str) -> Result<()> {
    let packages = chart::tools(workspace)?;
    let server = workspace.root().join(".deps/rehearsal");
    chart::install(workspace, "requirements-rehearsal.txt", &server, |_| Ok(()))?;
    let mut script = Command::new("python3");
    script.current_dir(workspace.root()).arg("-B").arg(Path::new("charts/rehearsal").join(name));
    chart::environment(&mut script, &packages);
    script.arg("target/debug").arg(server.join("bin/weed")).arg(folder);
    process::run(&mut script, "starting the chart's pods in namespaces")
}

fn check(needs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> =
        needs.iter().filter(|(program, _)| process::find(program).is_none()).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        bail!("pods are made with programs that are not here; `apt-get install {}` brings them", missing.join(" "));
    }
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let is_root = status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]));
    if !is_root {
        bail!("network namespaces are root's: run this as root");
    }
    // Root of a container may not make them.
    let name = format!("vared-{}-probe", std::process::id());
    let netns = |what| process::succeeds(Command::new("ip").args(["netns", what, &name]));
    if !netns("add") {
        bail!("`ip netns add` is refused here: the machine, or the container, must allow network namespaces");
    }
    netns("delete");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let error = check(&[("sh", "dash"), ("no-such-program", "its-package")]).expect_err("one is missing");
        assert!(error.to_string().contains("`apt-get install its-package`"), "{error}");
    }
}
