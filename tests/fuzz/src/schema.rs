//! JSON schemas, made so that they are schemas: few texts that are found by chance are.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use crate::rarely;

const NAMES: &[&str] = &["a", "b", "c", "", "a/b", "~", "ü", "$ref"];
const PATTERNS: &[&str] = &["^a+$", "[a-z]{2,5}", "(a|b)*c", "^.{3}$", "\\d+", "[^a]", "(", "^$", "\\p{L}{1,300}"];
const FORMATS: &[&str] =
    &["date", "date-time", "time", "email", "uuid", "uri", "ipv4", "ipv6", "hostname", "regex", "x"];
const REFS: &[&str] = &["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/items", "https://example.com/", "#nowhere"];
const TYPES: &[&str] = &["null", "boolean", "integer", "number", "string", "array", "object"];

/// A schema, up to so many levels deep.
pub fn schema(depth: u32, u: &mut Unstructured<'_>) -> Result<Value> {
    if rarely(12, u)? {
        return Ok(Value::Bool(u.arbitrary()?));
    }
    let mut keys = Map::new();
    for _ in 0..u.int_in_range(0..=4_u8)? {
        let (key, value) = keyword(depth, u)?;
        keys.insert(key.to_owned(), value);
    }
    Ok(Value::Object(keys))
}

fn keyword(depth: u32, u: &mut Unstructured<'_>) -> Result<(&'static str, Value)> {
    let plain = match u.int_in_range(0..=if depth == 0 { 17 } else { 35 })? {
        0 | 1 => ("type", json!(u.choose(TYPES)?)),
        2 => ("type", json!([u.choose(TYPES)?, u.choose(TYPES)?])),
        3 => ("minimum", number(u)?),
        4 => ("maximum", number(u)?),
        5 => ("exclusiveMinimum", number(u)?),
        6 => ("exclusiveMaximum", number(u)?),
        7 => ("multipleOf", number(u)?),
        8 => ("minLength", count(u)?),
        9 => ("maxLength", count(u)?),
        10 => ("pattern", json!(u.choose(PATTERNS)?)),
        11 => ("format", json!(u.choose(FORMATS)?)),
        12 => ("enum", json!([value(2, u)?, value(2, u)?])),
        13 => ("const", value(2, u)?),
        14 => ("default", value(2, u)?),
        15 => ("required", json!([u.choose(NAMES)?, u.choose(NAMES)?])),
        16 => ("$ref", json!(u.choose(REFS)?)),
        17 => ("examples", json!([value(2, u)?])),
        18 => ("minItems", count(u)?),
        19 => ("maxItems", count(u)?),
        20 => ("uniqueItems", json!(u.arbitrary::<bool>()?)),
        21 => ("minProperties", count(u)?),
        22 => ("maxProperties", count(u)?),
        23 => ("items", schema(depth - 1, u)?),
        24 => ("prefixItems", json!([schema(depth - 1, u)?, schema(depth - 1, u)?])),
        25 => ("contains", schema(depth - 1, u)?),
        26 => ("additionalProperties", schema(depth - 1, u)?),
        27 => ("propertyNames", schema(depth - 1, u)?),
        28 => ("not", schema(depth - 1, u)?),
        29 => ("if", schema(depth - 1, u)?),
        30 => ("then", schema(depth - 1, u)?),
        31 => ("else", schema(depth - 1, u)?),
        32 => {
            let key = *u.choose(&["allOf", "anyOf", "oneOf"])?;
            (key, json!([schema(depth - 1, u)?, schema(depth - 1, u)?]))
        }
        33 => ("patternProperties", json!({*u.choose(PATTERNS)?: schema(depth - 1, u)?})),
        34 => ("$defs", json!({"a": schema(depth - 1, u)?, "b": schema(depth - 1, u)?})),
        _ => {
            ("properties", json!({*u.choose(NAMES)?: schema(depth - 1, u)?, *u.choose(NAMES)?: schema(depth - 1, u)?}))
        }
    };
    Ok(plain)
}

fn number(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=7_u8)? {
        0 => json!(u.arbitrary::<i64>()?),
        1 => json!(u.arbitrary::<u64>()?),
        2 => json!(u.arbitrary::<f64>()?),
        3 => json!(*u.choose(&[0.1, 1e-300, 1e300, -0.0, 0.5, 9007199254740993.0])?),
        _ => json!(u.int_in_range(-9..=9)?),
    })
}

fn count(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9_u8)? {
        0 => json!(u.arbitrary::<u64>()?),
        1 => json!(u.arbitrary::<u16>()?),
        2 => json!(2.0),
        _ => json!(u.int_in_range(0..=5)?),
    })
}

fn value(depth: u32, u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=if depth == 0 { 4 } else { 6 })? {
        0 => Value::Null,
        1 => json!(u.arbitrary::<bool>()?),
        2 | 3 => number(u)?,
        4 => json!(u.choose(NAMES)?),
        5 => json!([value(depth - 1, u)?]),
        _ => json!({*u.choose(NAMES)?: value(depth - 1, u)?}),
    })
}
