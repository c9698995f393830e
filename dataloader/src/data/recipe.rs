//! The loader's part of a recipe: `[data]` and the run's seed. The rest belongs to other processes.

use clips::DataConfig;
use serde::Deserialize;

/// What a loader reads of a recipe.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Recipe {
    /// The `[run]` section.
    pub run: RunSeed,
    /// The `[data]` section.
    pub data: DataConfig,
}

/// The seed of `[run]`; its other fields are the coordinator's to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RunSeed {
    /// Orders and augments the clips.
    pub seed: u64,
}

/// The text is no recipe that a loader can use.
#[derive(Debug, thiserror::Error)]
#[error("the recipe can't be used: {reason}")]
pub struct RecipeError {
    /// Which field, and why.
    pub reason: String,
}

/// Reads a resolved recipe.
pub fn parse(text: &str) -> Result<Recipe, RecipeError> {
    toml::from_str(text).map_err(|error| RecipeError { reason: cluster::recipe::explain(text, &error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        name = "demo"
        [run]
        seed = 7
        lanes = 2
        [data]
        train = "train"
        val = "val"
        frames = 8
        stride = 4
        short_side = [64, 72]
        crop = 56
        mean = [0.5, 0.5, 0.5]
        std = [0.2, 0.2, 0.2]
        [model]
        anything = true
    "#;

    #[test]
    fn other_sections_are_left_to_others() {
        let recipe = parse(RECIPE).expect("valid");
        assert_eq!((recipe.run.seed, recipe.data.crop), (7, 56));
    }

    #[test]
    fn every_recipe_of_ours_has_a_data_section_that_a_loader_takes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let recipe = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!recipe.data.train.is_empty());
        }
    }

    #[test]
    fn the_recipe_of_the_guide_has_a_data_section_that_a_loader_takes() {
        let guide = include_str!("../../../docs/recipe.md");
        let (_, rest) = guide.split_once("```toml\n").expect("it shows a recipe");
        let (text, _) = rest.split_once("```").expect("the recipe ends");
        let data = parse(text).expect("as the guide says").data;
        assert_eq!(data.rand_augment, Some(clips::config::RandAugment::default()));
        assert_eq!(data.erasing.map(|erasing| erasing.aspect), Some(0.3));
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_field() {
        let text = parse(&RECIPE.replace("crop = 56", "crop = 99")).expect_err("too large").to_string();
        let expected =
            "the recipe can't be used: data.crop is 99, but must be at most data.short_side[0] = 64 (in [data])";
        assert_eq!(text, expected);
        let text = parse(&RECIPE.replace("seed = 7", "")).expect_err("no seed").to_string();
        assert!(text.contains("missing field `seed`"), "{text}");
    }
}
