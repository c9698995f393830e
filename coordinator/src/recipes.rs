//! The recipes that travel inside the binary, and those of the user.

use std::path::Path;

use crate::error::ConfigError;

/// Name and text of every embedded recipe.
const EMBEDDED: [(&str, &str); 2] = [
    ("demo", include_str!("../../recipes/demo.toml")),
    ("mini-kinetics-r2plus1d18", include_str!("../../recipes/mini-kinetics-r2plus1d18.toml")),
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
    use cluster::recipe::Recipe;

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
    fn an_unknown_recipe_lists_the_known_ones() {
        let error = text("dmeo").expect_err("a typing error");
        assert_eq!(
            error.to_string(),
            "no recipe is called `dmeo`; known are demo, mini-kinetics-r2plus1d18, or give the path of a .toml file"
        );
    }

    #[test]
    fn a_recipe_file_that_is_not_there_is_named() {
        let error = text("./nowhere.toml").expect_err("not there");
        assert_eq!(error.to_string(), "can't read the recipe ./nowhere.toml");
    }
}
