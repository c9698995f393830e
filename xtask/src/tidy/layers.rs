//! Who may depend on whom: the table of the house, checked against what cargo resolves.
//! `deny.toml` holds the same bans for cargo-deny; this table also knows which crate of ours may use which.

use std::path::Path;

use super::Finding;
use super::rules::{empty_name, is_empty_name};
use crate::workspace::{Graph, Kind, Package};

/// What one crate may use and what must stay out of its reach.
struct Layer {
    name: &'static str,
    /// Crates of the workspace that it may name.
    may_use: &'static [&'static str],
    /// Packages that it must not reach, not even through others.
    never: &'static [&'static str],
    why: &'static str,
}

const TENSORS_ONLY: &[&str] = &["tokio", "tonic", "ractor", "object_store"];
const TENSORS_WHY: &str = "layers, networks and training are synchronous and run on one thread that owns the device; \
                           a service calls them through worker/src/device.rs";
const SERVICE_WHY: &str =
    "services build and test without libtorch, in seconds; what needs a tensor goes to the worker";

const LAYERS: [Layer; 15] = [
    Layer {
        name: "cluster",
        may_use: &[],
        never: &["tokio", "tonic", "tch", "rand", "getrandom"],
        why: "it decides, purely: events and the time in, commands out; what it needs from outside comes as an argument",
    },
    Layer {
        name: "runtime",
        may_use: &[],
        never: &["tonic", "tch"],
        why: "it is how any process lives, whatever the process does; services and tensors go to the crates that use it",
    },
    Layer {
        name: "proto",
        may_use: &["cluster"],
        never: &["ractor", "tch"],
        why: "the wire only translates; actors and tensors stay on either side of it",
    },
    Layer {
        name: "checkpoint",
        may_use: &["cluster"],
        never: &["tch", "ractor"],
        why: "a checkpoint is bytes and a record; the worker turns tensors into bytes",
    },
    Layer {
        name: "clips",
        may_use: &[],
        never: &["tokio", "tch"],
        why: "a clip is a pure function of bytes and a seed; the data loader's actors do the waiting",
    },
    Layer {
        name: "cuda",
        may_use: &[],
        never: &["tch", "tokio"],
        why: "it loads libraries for whoever computes on a GPU, and knows nothing of what they do with them",
    },
    Layer { name: "nn", may_use: &["cuda"], never: TENSORS_ONLY, why: TENSORS_WHY },
    Layer {
        name: "tensorfile",
        may_use: &[],
        never: &["tokio", "tonic", "tch"],
        why: "it reads files of strangers: the less it can reach, the less they can; tensors of libtorch are made in models",
    },
    Layer { name: "models", may_use: &["nn", "tensorfile"], never: TENSORS_ONLY, why: TENSORS_WHY },
    Layer { name: "collective", may_use: &["cuda"], never: TENSORS_ONLY, why: TENSORS_WHY },
    Layer { name: "train", may_use: &["nn", "models", "collective"], never: TENSORS_ONLY, why: TENSORS_WHY },
    Layer {
        name: "coordinator",
        may_use: &["cluster", "runtime", "proto", "checkpoint"],
        never: &["tch"],
        why: SERVICE_WHY,
    },
    Layer {
        name: "worker",
        may_use: &["cluster", "runtime", "proto", "checkpoint", "models", "train", "collective", "cuda"],
        never: &["ffmpeg-next"],
        why: "clips come to it decoded, over the wire; only the data loader knows video",
    },
    Layer { name: "dataloader", may_use: &["cluster", "runtime", "proto", "clips"], never: &["tch"], why: SERVICE_WHY },
    Layer {
        name: "xtask",
        may_use: &[],
        never: &["tokio", "tonic", "tch"],
        why: "it is the first thing a newcomer builds",
    },
];

/// Crates that prove and never ship: they may use everything.
const PROOFS: [&str; 3] = ["sim", "bench", "faults"];

/// Checks every crate of the workspace.
pub fn check(graph: &Graph, root: &Path) -> Vec<Finding> {
    graph.members().flat_map(|member| check_crate(graph, member, root)).collect()
}

/// Whether a crate and its tests build without libtorch.
pub fn free_of_libtorch(graph: &Graph, package: &Package) -> bool {
    graph.path_to(package, "tch", true).is_none()
}

fn check_crate(graph: &Graph, member: &Package, root: &Path) -> Vec<Finding> {
    let folder = member.folder.strip_prefix(root).unwrap_or(&member.folder);
    let finding = |what: String| Finding { file: folder.join("Cargo.toml").display().to_string(), line: 0, what };
    let name = short(member);
    if is_empty_name(name) {
        return vec![finding(empty_name(name))];
    }
    if PROOFS.contains(&name) {
        return Vec::new();
    }
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
        return vec![finding(format!(
            "crate `{name}` has no line in the table of layers; say there what it may use and why (xtask/src/tidy/layers.rs)"
        ))];
    };
    let used = uses(graph, member).into_iter().filter(|used| !layer.may_use.contains(&used.as_str()));
    let direct = used.map(|used| format!("`{name}` may not use `{used}`: {}", layer.why));
    // Tests may use what they like, except libtorch: services are tested without it.
    let reached = layer.never.iter().filter_map(|banned| graph.path_to(member, banned, *banned == "tch"));
    let reached =
        reached.map(|path| format!("`{name}` reaches a banned package ({}): {}", path.join(" → "), layer.why));
    direct.chain(reached).map(finding).collect()
}

/// Short names of the crates of ours that `member` names for what it ships.
fn uses(graph: &Graph, member: &Package) -> Vec<String> {
    let shipped = member.needs.iter().filter(|(_, kinds)| kinds.contains(&Kind::Shipped));
    let packages = shipped.filter_map(|(id, _)| graph.package(id)).filter(|package| package.member);
    packages.map(|package| short(package).to_owned()).collect()
}

/// A crate's name as the house says it, without the prefix that keeps it apart from the registry's.
fn short(package: &Package) -> &str {
    package.name.strip_prefix("vared-").unwrap_or(&package.name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A graph of `(package, [needs])`, where `dev:` marks a test's need; crates of ours are the ones with a layer.
    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let known = |name: &str| LAYERS.iter().any(|layer| layer.name == name) || name == "core" || name == "new";
        let dep = |need: &&str| {
            let name = need.strip_prefix("dev:");
            json!({ "pkg": name.unwrap_or(need), "dep_kinds": [{ "kind": name.map(|_| "dev") }] })
        };
        let package =
            |name: &str| json!({ "id": name, "name": name, "manifest_path": format!("/w/{name}/Cargo.toml") });
        let nodes: Vec<Value> = edges
            .iter()
            .map(|(name, needs)| json!({ "id": name, "deps": needs.iter().map(dep).collect::<Vec<_>>() }))
            .collect();
        Graph::parse(&json!({
            "workspace_members": edges.iter().map(|(name, _)| *name).filter(|name| known(name)).collect::<Vec<_>>(),
            "packages": edges.iter().map(|(name, _)| package(name)).collect::<Vec<_>>(),
            "resolve": { "nodes": nodes },
        }))
        .expect("it has every field")
    }

    fn findings(edges: &[(&str, &[&str])]) -> Vec<String> {
        check(&graph(edges), Path::new("/w")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_house_as_drawn_passes() {
        let house: &[(&str, &[&str])] = &[
            ("cluster", &[]),
            ("nn", &["tch"]),
            ("models", &["nn", "tch"]),
            ("worker", &["cluster", "models", "tokio", "dev:clips"]),
            ("clips", &["ffmpeg"]),
            ("tch", &[]),
            ("tokio", &[]),
            ("ffmpeg", &[]),
        ];
        assert_eq!(findings(house), [] as [&str; 0]);
    }

    #[test]
    fn a_wrong_edge_between_our_crates_is_named_with_its_reason() {
        let found = findings(&[("coordinator", &["models"]), ("models", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("coordinator/Cargo.toml: `coordinator` may not use `models`: "), "{}", found[0]);
    }

    #[test]
    fn a_ban_holds_through_others_and_the_way_is_shown() {
        let found = findings(&[("nn", &["metrics"]), ("metrics", &["http"]), ("http", &["tokio"]), ("tokio", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("(nn → metrics → http → tokio)"), "{}", found[0]);
    }

    #[test]
    fn tests_may_use_what_the_crate_itself_may_not() {
        assert_eq!(findings(&[("nn", &["dev:tokio"]), ("tokio", &[])]), [] as [&str; 0]);
    }

    #[test]
    fn tests_of_a_service_need_no_libtorch_either_but_those_of_its_dependencies_do_not_count() {
        let found = findings(&[("dataloader", &["dev:tch"]), ("tch", &[])]);
        assert!(found[0].contains("(dataloader → tch)"), "{found:?}");
        assert_eq!(findings(&[("dataloader", &["other"]), ("other", &["dev:tch"]), ("tch", &[])]), [] as [&str; 0]);
    }

    #[test]
    fn a_crate_needs_a_name_and_a_line_in_the_table() {
        assert!(findings(&[("core", &[])])[0].contains("the name `core` says nothing"));
        assert!(findings(&[("new", &[])])[0].contains("has no line in the table of layers"));
    }

    #[test]
    fn crates_are_split_by_what_they_and_their_tests_link() {
        let graph = graph(&[("cluster", &[]), ("train", &["tch"]), ("worker", &["train"]), ("tch", &[])]);
        let (free, bound) = super::super::by_libtorch(&graph);
        assert_eq!((free, bound), (vec!["cluster".to_owned()], vec!["train".to_owned(), "worker".to_owned()]));
    }
}
