//! The recipes that travel inside the binary, and those of the user.

use std::path::Path;

use crate::error::ConfigError;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),*]
    };
}

/// Name and text of every file in `recipes/`.
const EMBEDDED: [(&str, &str); 13] = embedded![
    "demo",
    "kinetics400-i3d-inception",
    "kinetics400-i3d-r50",
    "kinetics400-r2plus1d18",
    "kinetics400-x3d-m",
    "mini-kinetics-i3d-inception",
    "mini-kinetics-i3d-r50",
    "mini-kinetics-r2plus1d18",
    "mini-kinetics-x3d-m",
    "moments-i3d-inception",
    "moments-i3d-r50",
    "moments-r2plus1d18",
    "moments-x3d-m",
];

/// The names of the embedded recipes, for messages.
pub fn names() -> String {
    EMBEDDED.map(|(name, _)| name).join(", ")
}

/// The text of a recipe: an embedded one by its name, else the file at that path.
pub fn text(recipe: &str) -> Result<String, ConfigError> {
    if let Some((_, text)) = EMBEDDED.iter().find(|(name, _)| *name == recipe) {
        return Ok((*text).to_owned());
    }
    let is_path = recipe.contains(std::path::MAIN_SEPARATOR) || recipe.ends_with(".toml") || Path::new(recipe).exists();
    if !is_path {
        return Err(ConfigError::UnknownRecipe { recipe: recipe.to_owned(), known: names() });
    }
    std::fs::read_to_string(recipe)
        .map_err(|source| ConfigError::UnreadableRecipe { recipe: recipe.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use cluster::recipe::{Recipe, changes};

    use super::*;

    #[test]
    fn every_embedded_recipe_is_good_and_bears_its_name() {
        for (name, text) in EMBEDDED {
            let recipe = Recipe::parse(text, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(recipe.name().as_str(), name);
            assert_eq!(recipe.warnings(), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn every_file_of_recipes_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");
        let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
        let mut files: Vec<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        files.sort();
        assert_eq!(files, EMBEDDED.map(|(name, _)| format!("{name}.toml")));
    }

    /// Each file is whole, so that it can be read alone; what they share can't drift apart for all that.
    #[test]
    fn recipes_of_one_backbone_differ_in_what_the_data_asks_for() {
        const BY_DATA: [&str; 9] = [
            "data.train",
            "data.val",
            "model.classes",
            "name",
            "run.precise_bn_batches",
            "stages.0.epochs",
            "stages.0.warmup_epochs",
            "stages.1.epochs",
            "stages.1.warmup_epochs",
        ];
        for backbone in ["i3d-inception", "i3d-r50", "r2plus1d18", "x3d-m"] {
            let of = |data: &str| text(&format!("{data}-{backbone}")).expect("embedded");
            for data in ["mini-kinetics", "moments"] {
                for change in changes(&of("kinetics400"), &of(data)).expect("both parse") {
                    assert!(BY_DATA.contains(&change.field.as_str()), "{data}-{backbone}: {change}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_recipe_lists_the_known_ones() {
        let error = text("dmeo").expect_err("a typing error").to_string();
        assert!(
            error.starts_with("no recipe is called `dmeo`; known are demo, kinetics400-i3d-inception, "),
            "{error}"
        );
        assert!(error.ends_with("moments-x3d-m, or give the path of a .toml file"), "{error}");
    }

    #[test]
    fn a_recipe_file_that_is_not_there_is_named() {
        let error = text("./nowhere.toml").expect_err("not there");
        assert_eq!(error.to_string(), "can't read the recipe ./nowhere.toml");
    }
}
