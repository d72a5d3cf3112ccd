//! What a user's workloads may import and call.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One grant: a whole capability (`llm`) or one function of it (`llm.complete`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    capability: String,
    function: Option<String>,
}

/// A grant was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no grant: write a capability (`llm`) or one of its functions (`llm.complete`)")]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let (capability, function) = match text.split_once('.') {
            Some((capability, function)) => (capability, Some(function)),
            None => (text, None),
        };
        if word(capability) && function.is_none_or(word) {
            Ok(Grant { capability: capability.to_owned(), function: function.map(str::to_owned) })
        } else {
            Err(InvalidGrant(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => write!(f, "{}.{function}", self.capability),
            None => f.write_str(&self.capability),
        }
    }
}

/// The grants of one execution. WASI's minimum (stdio, clocks, random, and whatever folders were
/// given) needs none: it reaches nothing but the execution itself. A scratch folder, which takes room on the
/// host's disk, needs `scratch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    everything: bool,
    grants: BTreeSet<Grant>,
}

impl Grants {
    /// Every capability that the host has.
    pub fn all() -> Self {
        Grants { everything: true, grants: BTreeSet::new() }
    }

    /// No capability at all.
    pub fn none() -> Self {
        Grants::default()
    }

    /// May a workload import this capability? It may if anything of it is granted.
    pub fn allows_import(&self, capability: &str) -> bool {
        self.everything || self.grants.iter().any(|grant| grant.capability == capability)
    }

    /// May a workload call this function?
    pub fn allows_call(&self, capability: &str, function: &str) -> bool {
        self.everything
            || self
                .grants
                .iter()
                .any(|grant| grant.capability == capability && grant.function.as_deref().is_none_or(|f| f == function))
    }

    /// The capabilities named by these grants, and the function where one is, to check them against what the
    /// host has.
    pub fn named(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.grants.iter().map(|grant| (grant.capability.as_str(), grant.function.as_deref()))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Grants { everything: false, grants: grants.into_iter().collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_function_grant_allows_the_import_and_that_call_alone() {
        let grants: Grants = ["llm.complete".parse().unwrap(), "trace".parse().unwrap()].into_iter().collect();
        assert!(grants.allows_import("llm") && grants.allows_import("trace"));
        assert!(!grants.allows_import("events"));
        assert!(grants.allows_call("llm", "complete") && !grants.allows_call("llm", "embed"));
        assert!(grants.allows_call("trace", "publish"));
    }

    #[test]
    fn all_is_everything_and_none_is_nothing() {
        assert!(Grants::all().allows_import("llm") && Grants::all().allows_call("anything", "at-all"));
        assert!(!Grants::none().allows_import("llm") && !Grants::none().allows_call("llm", "complete"));
    }

    #[test]
    fn a_grant_reads_as_it_was_written() {
        let grants = ["llm", "llm.complete", "my_own-thing.do-it"];
        for text in grants {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        let grants: Grants = grants.iter().map(|text| text.parse().unwrap()).collect();
        let named = [("llm", None), ("llm", Some("complete")), ("my_own-thing", Some("do-it"))];
        assert_eq!(grants.named().collect::<Vec<_>>(), named);
    }

    #[test]
    fn nonsense_is_no_grant() {
        for text in ["", ".", "llm.", "a b", "llm.complete.x", "*"] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
    }
}
