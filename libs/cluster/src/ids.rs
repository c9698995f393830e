//! Names and numbers that travel: validated once, behind the wire, then passed around as types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name: a DNS label's length, so that a name can be a pod's name, too.
pub const MAX_NAME_CHARS: usize = 63;

/// A name that can't be a path segment, a file name and a metric's label at once.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("the {what} {value:?} is not usable: 1 to {MAX_NAME_CHARS} of a-z A-Z 0-9 . _ -, with a letter or digit first")]
pub struct NameError {
    /// What kind of name it was to be.
    pub what: &'static str,
    /// The refused text.
    pub value: String,
}

fn check(what: &'static str, value: String) -> Result<String, NameError> {
    let first = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if first && rest && value.len() <= MAX_NAME_CHARS { Ok(value) } else { Err(NameError { what, value }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                check($what, value).map(Self)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                check($what, value.to_owned()).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a run: a folder in the store.
    RunName, "run name"
}
name! {
    /// The name of a member's seat, e.g. `worker-0`; stable over restarts.
    MemberName, "member name"
}
name! {
    /// What distinguishes one process in a seat from the next: a uuid in practice.
    Incarnation, "incarnation"
}

/// One process that takes part in a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its seat.
    pub name: MemberName,
    /// This process in the seat.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.incarnation)
    }
}

/// The number of a generation. The first is 1; 0 on the wire means "in none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationNumber(pub u64);

impl GenerationNumber {
    /// The number of the generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_names_pass() {
        for name in ["demo", "a", "Run_1.b-2", "0", &"x".repeat(63)] {
            assert_eq!(name.parse::<RunName>().map(String::from), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "-x", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert!(name.parse::<RunName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_kind_and_the_text() {
        let error = "a/b".parse::<MemberName>().expect_err("a slash");
        assert_eq!(
            error.to_string(),
            "the member name \"a/b\" is not usable: 1 to 63 of a-z A-Z 0-9 . _ -, with a letter or digit first"
        );
    }
}
