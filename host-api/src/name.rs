//! Names that own things: checked once, where they come in, so that no later code has to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const LENGTH_MAX: usize = 128;

/// A name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} is no name: it must have 1 to {LENGTH_MAX} characters, ASCII letters, digits or `.` `_` `-` `@` `+` `|`, and begin with a letter or digit"
)]
pub struct InvalidName {
    shown: String,
}

/// The name of a user, session, program or profile.
///
/// The alphabet is small on purpose: no separator, no look-alike, no control character. Two names are
/// the same if and only if their bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-@+|".contains(&b);
        if begins_well && text.len() <= LENGTH_MAX && text.bytes().all(allowed) {
            Ok(Name(text.into()))
        } else {
            Err(InvalidName { shown: text.chars().take(40).collect() })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_try_to_be_others_are_refused() {
        for text in ["", "a/../b", "a\0b", "аlice", "alice ", "../x", ".", "-x", "a\nb", &"x".repeat(129)] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for text in ["alice", "Alice", "a@b.example", "auth0|5f7c", "42"] {
            assert!(text.parse::<Name>().is_ok(), "{text:?}");
        }
    }
}
