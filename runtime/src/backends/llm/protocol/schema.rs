//! Which answers' schemas providers can hold a model to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::Few;

const DEPTH_MAX: usize = 5;
const PROPERTIES_MAX: usize = 100;
const CHOICES_MAX: usize = 16;

/// Whether OpenAI and Anthropic both enforce this schema. Both do so for a part of JSON Schema, refuse a request with a
/// schema outside of it, and draw the line anew now and then: this is what lies well within. Every object names all of
/// its properties, requires them and allows no others; what is beside types, lists and choices is left out.
pub(super) fn is_enforceable(schema: &str) -> bool {
    let Ok(root) = serde_json::from_str::<Node<'_>>(schema) else { return false };
    let is_object = matches!(&root.kind, Some(Kind::One(kind)) if kind == "object");
    let mut left = Left { properties: PROPERTIES_MAX, choices: CHOICES_MAX };
    is_object && root.any_of.is_none() && root.is_enforceable(DEPTH_MAX, &mut left).is_some()
}

struct Left {
    properties: usize,
    choices: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Kind<'a>>,
    #[serde(borrow, rename = "title")]
    _title: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "description")]
    _description: Option<Cow<'a, str>>,
    #[serde(borrow)]
    properties: Option<BTreeMap<Cow<'a, str>, Node<'a>>>,
    #[serde(borrow)]
    required: Option<Vec<Cow<'a, str>>>,
    #[serde(rename = "additionalProperties")]
    additional_properties: Option<bool>,
    #[serde(borrow)]
    items: Option<Box<Node<'a>>>,
    #[serde(borrow, rename = "enum")]
    choices: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, rename = "anyOf")]
    any_of: Option<Few<Node<'a>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Kind<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Node<'_> {
    fn is_enforceable(&self, depth: usize, left: &mut Left) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let kinds: Vec<&str> = match &self.kind {
            Some(Kind::One(kind)) => vec![kind],
            Some(Kind::Several(kinds)) => {
                left.choices = left.choices.checked_sub(1)?;
                kinds.iter().map(|kind| kind.as_ref()).collect()
            }
            None => Vec::new(),
        };
        if let Some(any_of) = &self.any_of {
            left.choices = left.choices.checked_sub(1)?;
            if any_of.0.is_empty() || !kinds.is_empty() {
                return None;
            }
            return any_of.0.iter().try_for_each(|node| node.is_enforceable(depth, left));
        }
        left.properties = left.properties.checked_sub(self.choices.as_ref().map_or(0, Vec::len))?;
        if kinds.is_empty() || (self.choices.is_some() && kinds != ["string"]) {
            return None;
        }
        for kind in kinds {
            match kind {
                "string" | "number" | "integer" | "boolean" | "null" => {}
                "array" => self.items.as_ref()?.is_enforceable(depth, left)?,
                "object" => self.is_closed(depth, left)?,
                _ => return None,
            }
        }
        Some(())
    }

    fn is_closed(&self, depth: usize, left: &mut Left) -> Option<()> {
        let (properties, required) = (self.properties.as_ref()?, self.required.as_ref()?);
        left.properties = left.properties.checked_sub(properties.len())?;
        let all_required =
            required.len() == properties.len() && required.iter().all(|name| properties.contains_key(name));
        if self.additional_properties != Some(false) || !all_required {
            return None;
        }
        properties.values().try_for_each(|node| node.is_enforceable(depth, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_well_within_is_enforceable() {
        for schema in [
            r#"{"type":"object","properties":{"a":{"type":"string","description":"A."}},"required":["a"],
                "additionalProperties":false}"#,
            r#"{"type":"object","title":"T","properties":{"a":{"type":["integer","null"]},"b":{"type":"array","items":
                {"type":"string","enum":["x","y"]}},"c":{"anyOf":[{"type":"null"},{"type":"object","properties":{},
                "required":[],"additionalProperties":false}]}},"required":["b","c","a"],"additionalProperties":false}"#,
        ] {
            assert!(is_enforceable(schema), "{schema}");
        }
    }

    #[test]
    fn what_a_provider_may_refuse_is_not() {
        let deep = format!("{}{}", r#"{"type":"array","items":"#.repeat(200), "}".repeat(200));
        for schema in [
            "",
            "true",
            "[]",
            r#"{"type":"string"}"#,
            r#"{"type":"object"}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}"#,
            r#"{"type":"object","properties":{"a":{}},"required":["a"],"additionalProperties":false}"#,
            r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"],
                "additionalProperties":false}"#,
            r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"],"additionalProperties":false}"##,
            r#"{"anyOf":[{"type":"string"}]}"#,
            &deep,
        ] {
            assert!(!is_enforceable(schema), "{schema}");
        }
    }
}
