//! Looks at a schema before anything is compiled: refuses what is not supported and what is too large.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::places::{Place, resolve, subschemas};

/// Most schemas in one document.
const SCHEMAS_MAX: usize = 4_000;

/// Most schemas that apply to one value because one leads to the next.
const CHAIN_MAX: usize = 64;

/// Most different patterns, and the longest of them in bytes.
pub(super) const PATTERNS_MAX: usize = 16;
const PATTERN_LENGTH_MAX: usize = 1_024;

/// Keywords with which what a reference means depends on where it stands and how one got there.
const UNSUPPORTED: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$id", "$schema"];

/// Says what is wrong with a document, as the rest of a sentence that begins with its name.
pub(super) fn survey(document: &Value) -> Result<(), String> {
    keywords(document)?;
    let schemas = schemas(document)?;
    patterns(&schemas)?;
    let mut chains = HashMap::new();
    schemas.iter().try_for_each(|schema| chain(&mut chains, document, schema, 0).map(|_| ()))
}

/// Every schema in the document that is used or could be, the outer before the inner.
pub(in super::super) fn schemas(document: &Value) -> Result<Vec<&Value>, String> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut left = vec![document];
    while let Some(schema) = left.pop() {
        let Some(keywords) = schema.as_object() else { continue };
        if !seen.insert(std::ptr::from_ref(schema)) {
            continue;
        }
        if found.len() == SCHEMAS_MAX {
            return Err(format!("is made of more than {SCHEMAS_MAX} schemas"));
        }
        found.push(schema);
        left.extend(subschemas(keywords).into_iter().map(|(_, schema)| schema));
        left.extend(referred(document, keywords)?);
    }
    Ok(found)
}

/// Looks everywhere, not in schemas alone: a `$id` changes what references mean wherever it stands.
fn keywords(document: &Value) -> Result<(), String> {
    let mut left = vec![document];
    while let Some(value) = left.pop() {
        let Value::Object(keywords) = value else {
            left.extend(value.as_array().into_iter().flatten());
            continue;
        };
        for keyword in UNSUPPORTED {
            // A property may well have such a name; then what stands there is a schema.
            let Some(text) = keywords.get(keyword).and_then(Value::as_str) else { continue };
            if keyword != "$schema" || !std::ptr::eq(value, document) {
                return Err(format!("uses `{keyword}`, which is not supported"));
            }
            if text.contains("draft-04") {
                return Err("is written for draft 4; draft 6 and later are supported".to_owned());
            }
        }
        left.extend(keywords.values());
    }
    Ok(())
}

fn patterns(schemas: &[&Value]) -> Result<(), String> {
    let mut patterns = HashSet::new();
    for keywords in schemas.iter().filter_map(|schema| schema.as_object()) {
        patterns.extend(keywords.get("pattern").and_then(Value::as_str));
        let names = keywords.get("patternProperties").and_then(Value::as_object);
        patterns.extend(names.into_iter().flat_map(Map::keys).map(String::as_str));
    }
    if patterns.len() > PATTERNS_MAX {
        return Err(format!("has more than {PATTERNS_MAX} patterns"));
    }
    if patterns.iter().any(|pattern| pattern.len() > PATTERN_LENGTH_MAX) {
        return Err(format!("has a pattern of more than {PATTERN_LENGTH_MAX} bytes"));
    }
    Ok(())
}

/// How many schemas follow each on the same value; `None` while that is being found out.
type Chains = HashMap<*const Value, Option<usize>>;

/// How many more schemas a value has to pass because of this one. A chain that comes back to itself
/// says nothing about the value, and a validator could follow it for ever.
fn chain(chains: &mut Chains, document: &Value, schema: &Value, depth: usize) -> Result<usize, String> {
    let Some(keywords) = schema.as_object() else { return Ok(0) };
    let too_long = || Err(format!("applies more than {CHAIN_MAX} schemas to one value, each through the last"));
    match chains.get(&std::ptr::from_ref(schema)) {
        Some(None) => return Err("refers to itself with no value in between".to_owned()),
        Some(Some(length)) if depth + length > CHAIN_MAX => return too_long(),
        Some(Some(length)) => return Ok(*length),
        None if depth > CHAIN_MAX => return too_long(),
        None => {}
    }
    chains.insert(schema, None);
    let here = subschemas(keywords).into_iter().filter(|(place, _)| *place == Place::Here).map(|(_, schema)| schema);
    let mut longest = 0;
    for next in here.chain(referred(document, keywords)?) {
        longest = longest.max(1 + chain(chains, document, next, depth + 1)?);
    }
    chains.insert(schema, Some(longest));
    Ok(longest)
}

fn referred<'s>(document: &'s Value, keywords: &Map<String, Value>) -> Result<Option<&'s Value>, String> {
    let Some(reference) = keywords.get("$ref").and_then(Value::as_str) else { return Ok(None) };
    match resolve(document, reference) {
        Some(schema) => Ok(Some(schema)),
        None if reference.starts_with('#') => {
            Err(format!("refers to `{}`, where there is no schema", super::shorten(reference)))
        }
        None => Err(format!("refers to `{}`; only references into itself are supported", super::shorten(reference))),
    }
}
