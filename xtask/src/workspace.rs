//! The checkout: where it lies, and what cargo knows about its crates.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The checkout that this program was built in.
pub struct Workspace {
    root: PathBuf,
}

/// What an edge of the dependency graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linked into what ships, or run to build it.
    Shipped,
    /// Needed by tests only.
    Test,
}

/// One package of the dependency graph, workspace crate or not.
#[derive(Debug)]
pub struct Package {
    /// Cargo's id, unique in the graph.
    pub id: String,
    /// The name in its `Cargo.toml`.
    pub name: String,
    /// Folder of its `Cargo.toml`.
    pub folder: PathBuf,
    /// Whether it belongs to the workspace.
    pub member: bool,
    /// Ids of what it depends on, each with every kind of edge.
    pub needs: Vec<(String, Vec<Kind>)>,
}

/// The resolved dependency graph of the workspace.
#[derive(Debug, Default)]
pub struct Graph {
    packages: Vec<Package>,
}

impl Workspace {
    /// The checkout of this program's own sources.
    pub fn of_this_program() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask's manifest has no folder above it")?;
        anyhow::ensure!(
            root.join("Cargo.toml").is_file(),
            "no checkout at {}: it was moved after xtask was built; run `cargo clean -p xtask` and try again",
            root.display()
        );
        Ok(Self { root: root.to_owned() })
    }

    /// A checkout that a test made.
    #[cfg(test)]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo`, to be run at the top of the checkout.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root);
        command
    }

    /// The dependency graph for this kind of machine, as cargo resolves it.
    pub fn graph(&self) -> Result<Graph> {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut command = self.cargo();
        command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target]);
        let text = process::capture(&mut command, "reading the dependency graph")?;
        let json: Value = serde_json::from_str(&text).context("cargo metadata printed something that is not JSON")?;
        Graph::parse(&json)
    }
}

impl Graph {
    /// Reads what `cargo metadata --format-version 1` printed.
    pub fn parse(json: &Value) -> Result<Self> {
        let members: BTreeSet<&str> = array(json, "workspace_members")?.iter().filter_map(Value::as_str).collect();
        let nodes = array(&json["resolve"], "nodes")?;
        let packages = array(json, "packages")?;
        let packages = packages.iter().map(|package| parse_package(package, &members, nodes));
        Ok(Self { packages: packages.collect::<Result<_>>()? })
    }

    /// The crates of the workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }

    /// The package with this id.
    pub fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.id == id)
    }

    /// How `from` comes to depend on a package called `name`: the names on the way, or nothing where it does not.
    /// With `tests`, what the tests of `from` need counts too; nobody inherits the tests of a dependency.
    pub fn path_to(&self, from: &Package, name: &str, tests: bool) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![(from, vec![from.name.clone()])];
        while let Some((package, path)) = todo.pop() {
            for (id, kinds) in &package.needs {
                let inherited = (tests && package.id == from.id) || kinds.contains(&Kind::Shipped);
                let Some(next) = self.package(id).filter(|_| inherited) else { continue };
                let path: Vec<_> = path.iter().cloned().chain([next.name.clone()]).collect();
                if next.name == name {
                    return Some(path);
                }
                if seen.insert(id) {
                    todo.push((next, path));
                }
            }
        }
        None
    }
}

fn parse_package(package: &Value, members: &BTreeSet<&str>, nodes: &[Value]) -> Result<Package> {
    let id = text(package, "id")?;
    let manifest = PathBuf::from(text(package, "manifest_path")?);
    let node = nodes.iter().find(|node| node["id"] == id).with_context(|| format!("{id} is not resolved"))?;
    let needs = array(node, "deps")?.iter().map(|dep| Ok((text(dep, "pkg")?.to_owned(), kinds(dep)?)));
    Ok(Package {
        id: id.to_owned(),
        name: text(package, "name")?.to_owned(),
        folder: manifest.parent().context("a manifest without a folder")?.to_owned(),
        member: members.contains(id),
        needs: needs.collect::<Result<_>>()?,
    })
}

fn kinds(dep: &Value) -> Result<Vec<Kind>> {
    let kinds = array(dep, "dep_kinds")?.iter();
    Ok(kinds.map(|kind| if kind["kind"] == "dev" { Kind::Test } else { Kind::Shipped }).collect())
}

fn array<'a>(json: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    json[key].as_array().with_context(|| format!("cargo metadata has no list `{key}`"))
}

fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str> {
    json[key].as_str().with_context(|| format!("cargo metadata has no text `{key}`"))
}
