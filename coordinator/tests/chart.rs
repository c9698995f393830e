//! What the Helm chart starts is what this program takes: every list of arguments that it renders makes a `Config`.

use std::{collections::BTreeMap, path::Path};

use clap::Parser;
use coordinator::{args::Args, config::Config};

/// Values file → program → arguments, as `charts/tests` compares them with what helm renders.
const ARGUMENTS: &str = include_str!("../../charts/tests/arguments.json");

/// A recipe of one's own lies in the pod only.
fn is_own_recipe(argument: &str) -> bool {
    argument.starts_with("--recipe=/etc/vared/")
}

fn config(arguments: &[String]) -> Config {
    let there = arguments.iter().filter(|argument| !is_own_recipe(argument));
    let all = std::iter::once("coordinator").chain(there.map(String::as_str));
    let args = Args::try_parse_from(all).expect("every flag is known");
    Config::new(args, Path::new("/nowhere"), String::new()).expect("every value is taken")
}

#[test]
fn every_rendered_list_of_arguments_is_a_configuration() {
    type Rendered = BTreeMap<String, BTreeMap<String, Vec<String>>>;
    let rendered: Rendered = serde_json::from_str(ARGUMENTS).expect("lists of arguments by file and program");
    let configs: BTreeMap<_, _> =
        rendered.iter().map(|(file, programs)| (file, config(&programs["coordinator"]))).collect();
    assert!(configs.len() >= 6, "{:?}", configs.keys());
    for (file, config) in &configs {
        assert!(config.programs.is_none() && config.listen.ip().is_unspecified(), "{file}");
        assert!(config.store.starts_with("s3://"), "{file}");
        if !rendered[*file]["coordinator"].iter().any(|argument| is_own_recipe(argument)) {
            let recipe = config.new_recipe().expect("a recipe that comes with the program");
            config.policy(&recipe).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }
    let spot = &configs[&"spot".to_owned()];
    assert_eq!((spot.workers, spot.min_workers, spot.run.as_str()), (16, 8, "spot-1"));
    assert_eq!(configs[&"jobset".to_owned()].limits.patience.as_secs(), 90);
}
