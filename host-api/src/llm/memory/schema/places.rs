//! Which parts of a schema are schemas themselves, and what of an answer each applies to.

use serde_json::{Map, Value};

/// What of an answer a subschema applies to. Where that depends on more than the keyword, it is the
/// most that it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Place<'s> {
    /// The same value that the schema itself applies to.
    Here,
    /// One property.
    Property(&'s str),
    /// Every property.
    Properties,
    /// The names of properties.
    Names,
    /// One item.
    Item(usize),
    /// Every item.
    Items,
    /// Nothing by itself: something may refer to it.
    Apart,
}

/// The schemas directly in this one, but for what `$ref` names.
pub(in super::super) fn subschemas(schema: &Map<String, Value>) -> Vec<(Place<'_>, &Value)> {
    let mut found = Vec::new();
    for (keyword, value) in schema {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                found.extend(schemas.iter().map(|schema| (Place::Here, schema)));
            }
            ("not" | "if" | "then" | "else", schema) => found.push((Place::Here, schema)),
            ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                found.extend(schemas.values().map(|schema| (Place::Here, schema)));
            }
            ("properties", Value::Object(schemas)) => {
                found.extend(schemas.iter().map(|(name, schema)| (Place::Property(name), schema)));
            }
            ("patternProperties", Value::Object(schemas)) => {
                found.extend(schemas.values().map(|schema| (Place::Properties, schema)));
            }
            ("additionalProperties" | "unevaluatedProperties", schema) => found.push((Place::Properties, schema)),
            ("propertyNames", schema) => found.push((Place::Names, schema)),
            ("items" | "prefixItems", Value::Array(schemas)) => {
                found.extend(schemas.iter().enumerate().map(|(index, schema)| (Place::Item(index), schema)));
            }
            ("items" | "additionalItems" | "unevaluatedItems" | "contains", schema) => {
                found.push((Place::Items, schema));
            }
            ("$defs" | "definitions", Value::Object(schemas)) => {
                found.extend(schemas.values().map(|schema| (Place::Apart, schema)));
            }
            ("contentSchema", schema) => found.push((Place::Apart, schema)),
            _ => {}
        }
    }
    found.retain(|(_, schema)| is_schema(schema));
    found
}

/// A schema is an object or a boolean.
pub(in super::super) fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// What a reference into the same document names: `#` or `#/$defs/item`.
pub(in super::super) fn resolve<'s>(document: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = decode_percent(reference.strip_prefix('#')?)?;
    document.pointer(&pointer).filter(|value| is_schema(value))
}

/// A pointer in a reference is a URI's fragment: `%25` is a percent sign.
fn decode_percent(fragment: &str) -> Option<String> {
    let mut bytes = fragment.bytes();
    let mut decoded = Vec::with_capacity(fragment.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}
