//! What differs between two recipes, field by field.

use std::{collections::BTreeSet, fmt};

use toml::Value;

use super::{RecipeError, syntax};

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The field's path.
    pub field: String,
    /// Its value in the first recipe, as TOML; `None` if it is not there.
    pub was: Option<String>,
    /// Its value in the second recipe.
    pub is: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |side: &Option<String>| side.clone().unwrap_or_else(|| "(absent)".to_owned());
        write!(f, "{}: {} → {}", self.field, show(&self.was), show(&self.is))
    }
}

/// The fields in which two recipe texts differ, sorted by path. Empty: the same recipe, however it is written.
pub fn changes(was: &str, is: &str) -> Result<Vec<Change>, RecipeError> {
    let parse = |text: &str| text.parse::<toml::Table>().map(Value::Table).map_err(syntax);
    let mut found = Vec::new();
    collect("", Some(&parse(was)?), Some(&parse(is)?), &mut found);
    Ok(found)
}

fn collect(path: &str, was: Option<&Value>, is: Option<&Value>, found: &mut Vec<Change>) {
    if was == is {
        return;
    }
    let (old, new) = (fields(was), fields(is));
    if old.is_empty() || new.is_empty() {
        let text = |side: Option<&Value>| side.map(ToString::to_string);
        found.push(Change { field: path.to_owned(), was: text(was), is: text(is) });
        return;
    }
    let keys: BTreeSet<&String> = old.iter().chain(&new).map(|(key, _)| key).collect();
    for key in keys {
        let of = |side: &[(String, &'_ Value)]| side.iter().position(|(k, _)| k == key);
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        collect(&inner, of(&old).map(|i| old[i].1), of(&new).map(|i| new[i].1), found);
    }
}

/// The named parts of a table or of a list of tables; nothing for plain values.
fn fields(value: Option<&Value>) -> Vec<(String, &Value)> {
    match value {
        Some(Value::Table(table)) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Some(Value::Array(list)) if list.iter().all(Value::is_table) => {
            list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
        }
        _ => Vec::new(),
    }
}
