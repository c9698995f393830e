//! The gate: everything that must hold before a change lands. It changes no file and stops at the first failure, so
//! the cheapest check comes first and the crates without libtorch before the rest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::chart;
use crate::process;
use crate::tidy;
use crate::workspace::Workspace;

/// The three services. Tests that run real processes expect them to be built.
const SERVICES: [&str; 3] = ["coordinator", "worker", "dataloader"];

/// The gate of one checkout.
pub struct Gate<'a> {
    workspace: &'a Workspace,
    has_nextest: bool,
    has_deny: bool,
}

impl<'a> Gate<'a> {
    /// The gate with the tools that are installed here.
    pub fn new(workspace: &'a Workspace) -> Self {
        let has = |tool: &str| process::succeeds(workspace.cargo().args([tool, "--version"]));
        Self { workspace, has_nextest: has("nextest"), has_deny: has("deny") }
    }

    /// Runs every check.
    pub fn run(&self) -> Result<()> {
        let start = Instant::now();
        self.step("format", || run(self.workspace.cargo().args(["fmt", "--all", "--check"]), "checking the format"))?;
        self.step("tidy", || tidy::run(self.workspace))?;
        self.step("chart", || chart::run(self.workspace))?;
        let (free, bound) = tidy::by_libtorch(&self.workspace.graph()?);
        self.step("clippy, without libtorch", || self.clippy(&free))?;
        self.step("tests, without libtorch", || self.test(&free))?;
        self.step("clippy, with libtorch", || self.clippy(&bound))?;
        self.step("services", || run(self.cargo("build").args(packages(&SERVICES)), "building the services"))?;
        self.step("tests, with libtorch", || self.test(&bound))?;
        // The crates apart again: together they would enable other features in what they share, and build it anew.
        self.step("examples, without libtorch", || self.doc_tests(&free))?;
        self.step("examples, with libtorch", || self.doc_tests(&bound))?;
        self.step("documentation", || self.docs())?;
        self.step("licences and bans", || self.deny())?;
        eprintln!("\nthe gate is open, after {}", process::spell(start.elapsed()));
        Ok(())
    }

    fn step(&self, name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("\n── {name}");
        let start = Instant::now();
        check().with_context(|| format!("the gate stopped at `{name}`"))?;
        eprintln!("── {name}: {}", process::spell(start.elapsed()));
        Ok(())
    }

    /// `cargo TASK --locked`: the gate tests the versions that were committed.
    fn cargo(&self, task: &str) -> Command {
        let mut command = self.workspace.cargo();
        command.args([task, "--locked"]);
        command
    }

    fn clippy(&self, crates: &[String]) -> Result<()> {
        let mut clippy = self.cargo("clippy");
        clippy.args(packages(crates)).args(["--all-targets", "--", "-D", "warnings"]);
        run(&mut clippy, "checking lints")
    }

    fn test(&self, crates: &[String]) -> Result<()> {
        let mut tests = if self.has_nextest {
            let mut nextest = self.workspace.cargo();
            nextest.args(["nextest", "run", "--locked"]);
            nextest
        } else {
            let mut test = self.cargo("test");
            test.args(["--tests", "--no-fail-fast"]);
            test
        };
        run(tests.args(packages(crates)), "testing")
    }

    fn doc_tests(&self, crates: &[String]) -> Result<()> {
        run(self.cargo("test").arg("--doc").args(packages(crates)), "running the examples in the documentation")
    }

    fn docs(&self) -> Result<()> {
        let mut doc = self.cargo("doc");
        doc.env("RUSTDOCFLAGS", "-D warnings").args(["--workspace", "--no-deps", "--document-private-items"]);
        run(&mut doc, "building the documentation")
    }

    /// Without its advisories: they come from the network, and a gate that changes its mind by itself is none.
    fn deny(&self) -> Result<()> {
        if !self.has_deny {
            eprintln!("cargo-deny is not installed here: bans were checked by tidy, licences and sources were not");
            return Ok(());
        }
        let mut deny = self.workspace.cargo();
        deny.args(["deny", "--offline", "--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
        run(&mut deny, "checking bans, licences and sources")
    }
}

/// Formats, and applies what clippy can fix by itself.
pub fn fix(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"]);
    run(&mut clippy, "applying clippy's fixes")?;
    run(workspace.cargo().args(["fmt", "--all"]), "formatting")
}

fn run(command: &mut Command, attempt: &str) -> Result<()> {
    eprintln!("$ {}", process::line(command));
    process::run(command, attempt)
}

fn packages(names: &[impl AsRef<str>]) -> Vec<String> {
    names.iter().flat_map(|name| ["--package".to_owned(), name.as_ref().to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_one_by_one() {
        assert_eq!(packages(&["a", "b"]), ["--package", "a", "--package", "b"]);
    }
}
