//! `--set a.b=value`: one field of the recipe, changed on the command line.

use std::str::FromStr;

use thiserror::Error;
use toml::Value;

/// One assignment. The value is TOML (`0.1`, `[1, 2]`, `"text"`); what is no TOML is taken as text, because a shell
/// eats the quotes of `--set model.dynamic="none"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    path: Vec<String>,
    value: Value,
}

/// Why an assignment is refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AssignmentError {
    /// Not of the form `path=value`.
    #[error("`{0}` is no assignment; write it like model.dynamic=none or stages.0.epochs=2")]
    Form(String),
    /// The path leads through something that has no fields.
    #[error("can't set {path}: `{at}` has no field `{key}`")]
    NoSuchField {
        /// The whole path.
        path: String,
        /// How far it leads.
        at: String,
        /// The field that is not there.
        key: String,
    },
}

impl FromStr for Assignment {
    type Err = AssignmentError;

    fn from_str(text: &str) -> Result<Self, AssignmentError> {
        let (path, value) = text.split_once('=').ok_or_else(|| AssignmentError::Form(text.to_owned()))?;
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(AssignmentError::Form(text.to_owned()));
        }
        Ok(Self { path, value: parse_value(value.trim()) })
    }
}

fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

impl Assignment {
    /// Sets the field. Tables on the way are made; elements of lists must exist.
    pub(super) fn apply(&self, document: &mut toml::Table) -> Result<(), AssignmentError> {
        let (first, rest) = self.path.split_first().expect("split yields one part or more");
        if rest.is_empty() {
            document.insert(first.clone(), self.value.clone());
            return Ok(());
        }
        let mut at = document.entry(first).or_insert_with(|| Value::Table(toml::Table::new()));
        for (depth, key) in rest.iter().enumerate() {
            at = self.step(at, depth, key)?;
        }
        *at = self.value.clone();
        Ok(())
    }

    fn step<'v>(&self, at: &'v mut Value, depth: usize, key: &str) -> Result<&'v mut Value, AssignmentError> {
        let missing = || AssignmentError::NoSuchField {
            path: self.path.join("."),
            at: self.path[..=depth].join("."),
            key: key.to_owned(),
        };
        match at {
            Value::Table(table) => Ok(table.entry(key).or_insert_with(|| Value::Table(toml::Table::new()))),
            Value::Array(list) => {
                let index: usize = key.parse().map_err(|_| missing())?;
                list.get_mut(index).ok_or_else(missing)
            }
            _ => Err(missing()),
        }
    }
}
