//! What the Helm chart starts is what this program takes: every list of arguments that it renders makes a `Config`.

use std::collections::BTreeMap;

use clap::Parser;
use dataloader::args::{Args, Command};
use dataloader::config::Config;

/// Values file → program → arguments, as `charts/tests` compares them with what helm renders.
const ARGUMENTS: &str = include_str!("../../charts/tests/arguments.json");

fn config(arguments: &[String]) -> Config {
    let known = |text: &String| text.replace("$(POD_NAME)", "vared-loader-7").replace("$(POD_IP)", "10.0.0.7");
    let all = std::iter::once("dataloader".to_owned()).chain(arguments.iter().map(known));
    let Command::Serve(args) = Args::try_parse_from(all).expect("every flag is known").command else {
        panic!("another command");
    };
    Config::try_from(args).expect("every value is taken")
}

#[test]
fn every_rendered_list_of_arguments_is_a_configuration() {
    type Rendered = BTreeMap<String, BTreeMap<String, Vec<String>>>;
    let rendered: Rendered = serde_json::from_str(ARGUMENTS).expect("lists of arguments by file and program");
    assert!(rendered.len() >= 6, "{:?}", rendered.keys());
    for (file, programs) in rendered {
        let config = config(&programs["loader"]);
        assert_eq!(
            (config.name.as_str(), config.advertise.as_str()),
            ("vared-loader-7", "http://10.0.0.7:7001"),
            "{file}"
        );
        assert_eq!((config.decode_threads, config.file_cache_bytes), (4, 256 << 20), "{file}");
    }
}
