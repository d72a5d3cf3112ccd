//! Whether a text is a JSON object, found out without keeping any of it: a tree of it may be fifteen times the text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Nests no deeper than what a backend could read as a tree.
pub(super) fn is_json_object(text: &str) -> bool {
    serde_json::from_str::<Skimmed>(text).is_ok_and(|skimmed| skimmed.is_object)
}

struct Skimmed {
    is_object: bool,
}

const OTHER: Skimmed = Skimmed { is_object: false };

impl<'de> Deserialize<'de> for Skimmed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Skim)
    }
}

struct Skim;

impl<'de> Visitor<'de> for Skim {
    type Value = Skimmed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_str<E>(self, _: &str) -> Result<Skimmed, E> {
        Ok(OTHER)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Skimmed, A::Error> {
        while items.next_element::<Skimmed>()?.is_some() {}
        Ok(OTHER)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Skimmed, A::Error> {
        while entries.next_entry::<Skimmed, Skimmed>()?.is_some() {}
        Ok(Skimmed { is_object: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_from_all_else() {
        for object in ["{}", r#" { "a": [1, -2, 3.5, null, true, "x\n", { "b": {} }] } "#] {
            assert!(is_json_object(object), "{object}");
        }
        for other in ["", "[]", "[{}]", "1", "-1", "1.5", "null", "true", "\"{}\"", "{", "{}{}", "{1:2}", "{\"a\"}"] {
            assert!(!is_json_object(other), "{other}");
        }
        assert!(is_json_object(&format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100))));
        assert!(!is_json_object(&format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200))));
    }
}
