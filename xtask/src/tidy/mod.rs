//! The house rules as a test: sizes, names, forbidden words, who depends on whom. Each finding says where, what,
//! why, and what to do instead. The rules themselves are data: [`layers`] for crates, the rest in [`rules`] and [`words`].

mod layers;
mod rules;
mod source;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use self::source::Source;
use crate::process;
use crate::workspace::{Graph, Workspace};

pub use self::layers::free_of_libtorch;

/// One breach of a house rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path relative to the checkout.
    pub file: String,
    /// Line, from 1; 0 where the file or folder as a whole is meant.
    pub line: usize,
    /// What is wrong, why that is a rule, what to do instead.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Checks the whole checkout; an error counts the findings, which are printed.
pub fn run(workspace: &Workspace) -> Result<()> {
    let sources = read_sources(workspace)?;
    let mut findings = check_sources(&sources);
    findings.extend(layers::check(&workspace.graph()?, workspace.root()));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{} house rules broken, listed above; the rules and their reasons are in CONTRIBUTING.md",
            findings.len()
        );
    }
    eprintln!("tidy: {} Rust files hold to the house rules", sources.len());
    Ok(())
}

fn check_sources(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(rules::file_length(source));
        findings.extend(rules::function_lengths(source));
        findings.extend(rules::names(&source.path));
        findings.extend(words::check(source));
    }
    findings.extend(rules::folders(sources.iter().map(|source| source.path.as_str())));
    findings
}

/// Every Rust file that git tracks or would track, so that build outputs and scratch files do not count.
fn read_sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let mut git = process_git(workspace.root());
    let listed = process::capture(
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"]),
        "listing the source files",
    )?;
    let paths: BTreeMap<&str, PathBuf> =
        listed.split_terminator('\0').map(|path| (path, workspace.root().join(path))).collect();
    let present = paths.into_iter().filter(|(_, file)| file.is_file());
    let read = |(path, file): (&str, PathBuf)| {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {path}"))?;
        Ok(Source::new(path, &text))
    };
    let sources: Vec<_> = present.map(read).collect::<Result<_>>()?;
    ensure!(!sources.is_empty(), "no Rust file found in {}: is this a git checkout?", workspace.root().display());
    Ok(sources)
}

fn process_git(root: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("git");
    // A checkout of another owner (a container's volume) is safe to list.
    command.arg("-C").arg(root).args(["-c", "safe.directory=*"]);
    command
}

/// The names of the crates that need no libtorch, and of those that do.
pub fn by_libtorch(graph: &Graph) -> (Vec<String>, Vec<String>) {
    let (free, bound): (Vec<_>, Vec<_>) = graph.members().partition(|member| free_of_libtorch(graph, member));
    let names =
        |packages: Vec<&crate::workspace::Package>| packages.iter().map(|package| package.name.clone()).collect();
    (names(free), names(bound))
}
