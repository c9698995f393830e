//! The demo: real clips, two trainings, one comparison. It drives the services' own commands and nothing else, so that
//! each line it prints can be repeated by hand.

mod footage;
mod summary;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::summary::Summary;
use crate::process;
use crate::setup::Setup;
use crate::workspace::Workspace;

/// The run of the network that the dynamic one is compared with.
const BASELINE: &str = "demo-backbone";
/// The run of the dynamic network.
const DYNAMIC: &str = "demo";

/// What makes the demo's recipe that of the plain backbone.
const BACKBONE_ONLY: [&str; 2] = ["--set", "model.dynamic=\"none\""];

/// How the demo is run.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Number of workers that train together
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Do without the packages that carry real footage, and render some instead
    #[arg(long)]
    skip_footage: bool,
    /// Do not check and fetch libtorch and FFmpeg first
    #[arg(long)]
    skip_setup: bool,
    /// Compare the runs that are there, as far as they were trained
    #[arg(long, conflicts_with = "fresh")]
    skip_training: bool,
    /// Forget the demo's earlier runs and train again; the clips are kept
    #[arg(long)]
    fresh: bool,
}

/// Runs the demo from set-up to table. What an earlier, stopped demo finished is not done again.
pub fn run(workspace: &Workspace, args: &DemoArgs) -> Result<()> {
    let demo = Demo { workspace, args, phases: Vec::new() };
    demo.run()
}

struct Demo<'a> {
    workspace: &'a Workspace,
    args: &'a DemoArgs,
    phases: Vec<(&'static str, Duration)>,
}

impl Demo<'_> {
    fn run(mut self) -> Result<()> {
        if !self.args.skip_setup {
            self.phase("set-up", |demo| Setup::of(demo.workspace).run())?;
        }
        self.phase("build", Self::build)?;
        self.phase("clips", Self::make_clips)?;
        if self.args.fresh {
            self.forget_runs()?;
        }
        if !self.args.skip_training {
            self.phase("training, backbone", |demo| demo.train(BASELINE, &BACKBONE_ONLY))?;
            self.phase("training, dynamic", |demo| demo.train(DYNAMIC, &[]))?;
        }
        self.phase("evaluation", Self::evaluate)?;
        let path = self.summary_path();
        let summary = Summary::read(&path)?;
        println!("\n{}", summary.table());
        self.say_where_next(&path);
        Ok(())
    }

    fn phase(&mut self, name: &'static str, work: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        eprintln!("\n── {name}");
        let start = Instant::now();
        work(self).with_context(|| format!("the demo stopped at `{name}`"))?;
        self.phases.push((name, start.elapsed()));
        eprintln!("── {name}: {}", process::spell(start.elapsed()));
        Ok(())
    }

    fn build(&self) -> Result<()> {
        let mut build = self.workspace.cargo();
        build.args(["build", "--locked", "--package", "coordinator", "--package", "worker", "--package", "dataloader"]);
        show_and_run(&mut build, "building the services")
    }

    fn make_clips(&self) -> Result<()> {
        let store = self.workspace.root().join(".vared");
        if ["train", "val"].iter().all(|set| store.join("data/demo").join(set).join("index.parquet").is_file()) {
            eprintln!("the clips are there from an earlier demo: {}", store.join("data/demo").display());
            return Ok(());
        }
        let mut make = self.service("dataloader");
        make.args(["demo", "--to", ".vared/data/demo"]);
        if !self.args.skip_footage {
            let deps = self.workspace.root().join(".deps");
            if footage::fetch(&deps.join("footage"), &deps.join(".footage"))? > 0 {
                make.arg("--footage").arg(".deps/footage");
            } else {
                eprintln!("no real footage could be had: the clips are cut from footage rendered here instead");
            }
        }
        show_and_run(&mut make, "making the demo's clips")
    }

    fn train(&self, run: &str, more: &[&str]) -> Result<()> {
        let mut train = self.service("coordinator");
        train.args(["--workers", &self.args.workers.to_string(), "--recipe", "demo", "--run", run]).args(more);
        let again = "the same command goes on from the last checkpoint, with --fresh it trains from the start";
        show_and_run(&mut train, &format!("training the run `{run}`")).context(again)
    }

    fn evaluate(&self) -> Result<()> {
        let path = self.summary_path();
        fs::create_dir_all(path.parent().expect("it lies in target/demo")).context("creating target/demo")?;
        let mut evaluate = self.service("worker");
        evaluate.args(["eval", "--store", ".vared", "--run", DYNAMIC, "--baseline", BASELINE]);
        evaluate.args(["--json", "target/demo/summary.json", "--report", "target/demo/report.html"]);
        // It prints a table of its own, with more in it than the comparison at the end: kept, not shown twice.
        let report = path.with_file_name("evaluation.txt");
        evaluate.stdout(File::create(&report).with_context(|| format!("creating {}", report.display()))?);
        show_and_run(&mut evaluate, "evaluating both runs")
    }

    fn forget_runs(&self) -> Result<()> {
        for run in [BASELINE, DYNAMIC] {
            for kind in ["runs", "logs"] {
                let folder = self.workspace.root().join(".vared").join(kind).join(run);
                remove(&folder)?;
            }
        }
        Ok(())
    }

    /// One of the services, run at the top of the checkout so that its paths read as typed.
    fn service(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new("target/debug").join(name));
        command.current_dir(self.workspace.root());
        command
    }

    fn summary_path(&self) -> PathBuf {
        self.workspace.root().join("target/demo/summary.json")
    }

    fn say_where_next(&self, summary: &Path) {
        let total: Duration = self.phases.iter().map(|(_, time)| *time).sum();
        let phases: Vec<_> =
            self.phases.iter().map(|(name, time)| format!("{name} {}", process::spell(*time))).collect();
        println!("{} in all: {}\n", process::spell(total), phases.join(", "));
        println!("where to look next:");
        let summary = relative(summary, self.workspace.root());
        println!("  {summary}  the table as JSON; evaluation.txt beside it: class by class, clips won and lost");
        println!(
            "  .vared/runs/{DYNAMIC}/  the run: journal and checkpoints; .vared/logs/{DYNAMIC}/ what each process said"
        );
        println!(
            "  recipes/demo.toml  what was trained; change it, and: target/debug/coordinator --workers 2 --recipe …"
        );
        println!("  README.md, ARCHITECTURE.md  what the system is and how it is built");
    }
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if !process::is_absent(&error) => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn show_and_run(command: &mut Command, attempt: &str) -> Result<()> {
    eprintln!("$ {}", process::line(command));
    process::run(command, attempt)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A checkout whose services only write down how they were called.
    fn checkout(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("xtask-demo-{name}-{}", std::process::id()));
        remove(&root).expect("a leftover can be removed");
        fs::create_dir_all(root.join("target/debug")).expect("a folder can be made");
        for service in ["coordinator", "worker", "dataloader"] {
            let file = root.join("target/debug").join(service);
            fs::write(&file, "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> calls\n").expect("a file can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        root
    }

    fn calls(root: &Path) -> String {
        fs::read_to_string(root.join("calls")).expect("something was called")
    }

    #[test]
    fn the_demo_is_four_commands_that_can_be_repeated_by_hand() {
        let root = checkout("commands");
        let workspace = Workspace::at(root.clone());
        let args = DemoArgs { workers: 3, skip_footage: true, skip_setup: true, skip_training: false, fresh: false };
        let demo = Demo { workspace: &workspace, args: &args, phases: Vec::new() };
        demo.make_clips().expect("the service succeeds");
        demo.train(BASELINE, &BACKBONE_ONLY).expect("the service succeeds");
        demo.train(DYNAMIC, &[]).expect("the service succeeds");
        demo.evaluate().expect("the service succeeds");
        let expected = "dataloader demo --to .vared/data/demo
coordinator --workers 3 --recipe demo --run demo-backbone --set model.dynamic=\"none\"
coordinator --workers 3 --recipe demo --run demo
worker eval --store .vared --run demo --baseline demo-backbone --json target/demo/summary.json --report target/demo/report.html
";
        assert_eq!(calls(&root), expected);
        remove(&root).expect("it was made above");
    }

    #[test]
    fn clips_that_are_there_are_not_made_again_and_fresh_forgets_the_runs_only() {
        let root = checkout("again");
        for file in
            ["data/demo/train/index.parquet", "data/demo/val/index.parquet", "runs/demo/x", "logs/demo-backbone/x"]
        {
            let file = root.join(".vared").join(file);
            fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder can be made");
            fs::write(file, "").expect("a file can be written");
        }
        let workspace = Workspace::at(root.clone());
        let args = DemoArgs { workers: 2, skip_footage: true, skip_setup: true, skip_training: false, fresh: true };
        let demo = Demo { workspace: &workspace, args: &args, phases: Vec::new() };
        demo.make_clips().expect("there is nothing to do");
        demo.forget_runs().expect("they can be removed");
        assert!(!root.join("calls").exists());
        let there = |path: &str| root.join(".vared").join(path).exists();
        assert!(there("data/demo/train/index.parquet") && !there("runs/demo") && !there("logs/demo-backbone"));
        remove(&root).expect("it was made above");
    }

    #[test]
    fn a_service_that_fails_stops_the_demo_with_the_command_to_repeat() {
        let root = checkout("fails");
        fs::write(root.join("target/debug/coordinator"), "#!/bin/sh\nexit 78\n").expect("a file can be written");
        let workspace = Workspace::at(root.clone());
        let args = DemoArgs { workers: 2, skip_footage: true, skip_setup: true, skip_training: false, fresh: false };
        let mut demo = Demo { workspace: &workspace, args: &args, phases: Vec::new() };
        let error = demo.phase("training", |demo| demo.train(DYNAMIC, &[])).expect_err("it exits with 78");
        let said = format!("{error:#}");
        assert!(said.starts_with("the demo stopped at `training`: the same command goes on"), "{said}");
        assert!(said.contains("(exit status: 78)") && said.ends_with("--recipe demo --run demo"), "{said}");
        remove(&root).expect("it was made above");
    }
}
