//! What a check costs, found out before it is made.
//!
//! A small schema can make a validator work for hours: a chain of references that doubles at each step,
//! or `unevaluatedProperties` within itself. So the same walk is made here first, in cheap steps, and
//! given up after a fixed number of them.

use serde_json::{Map, Value};

use super::Mismatch;
use super::places::{Place, resolve, subschemas};

/// Steps for one request; the validator takes about a tenth of a microsecond for each.
const STEPS_MAX: u64 = 300_000;

/// Deepest that schemas and values nest together. Each level is a few frames of a validator's stack.
const DEPTH_MAX: u32 = 400;

/// The steps that are left.
pub(in super::super) struct Effort {
    left: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { left: STEPS_MAX }
    }
}

impl Effort {
    /// The steps that are left.
    pub(in super::super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes what a check of this answer needs.
    pub(in super::super) fn take(&mut self, document: &Value, answer: &Value) -> Result<(), Mismatch> {
        let mut walk = Walk { document, left: self.left };
        let result = walk.visit(document, answer, 1, 0);
        self.left = walk.left;
        let too_costly = |()| Mismatch { at: String::new(), why: "checking the answer takes too much work".to_owned() };
        result.map_err(too_costly)
    }
}

struct Walk<'s> {
    document: &'s Value,
    left: u64,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Value, value: &Value, times: u64, depth: u32) -> Result<(), ()> {
        let Some(keywords) = schema.as_object() else { return self.step(times) };
        if depth > DEPTH_MAX {
            return Err(());
        }
        self.step(times.saturating_mul(own_cost(keywords, value)))?;
        let times = times.saturating_mul(repeats(keywords, value));
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|name| resolve(self.document, name))
        {
            self.visit(target, value, times, depth + 1)?;
        }
        for (place, schema) in subschemas(keywords) {
            self.place(place, schema, value, times, depth + 1)?;
        }
        Ok(())
    }

    fn place(&mut self, place: Place<'_>, schema: &Value, value: &Value, times: u64, depth: u32) -> Result<(), ()> {
        match (place, value) {
            (Place::Here, value) => self.visit(schema, value, times, depth),
            (Place::Property(name), Value::Object(properties)) => {
                properties.get(name).map_or(Ok(()), |value| self.visit(schema, value, times, depth))
            }
            (Place::Properties, Value::Object(properties)) => {
                properties.values().try_for_each(|value| self.visit(schema, value, times, depth))
            }
            (Place::Names, Value::Object(properties)) => {
                properties.keys().try_for_each(|name| self.visit(schema, &Value::String(name.clone()), times, depth))
            }
            (Place::Item(index), Value::Array(items)) => {
                items.get(index).map_or(Ok(()), |value| self.visit(schema, value, times, depth))
            }
            (Place::Items, Value::Array(items)) => {
                items.iter().try_for_each(|value| self.visit(schema, value, times, depth))
            }
            _ => Ok(()),
        }
    }

    fn step(&mut self, steps: u64) -> Result<(), ()> {
        self.left = self.left.checked_sub(steps).ok_or(())?;
        Ok(())
    }
}

/// Steps for the keywords that look at the value itself.
fn own_cost(keywords: &Map<String, Value>, value: &Value) -> u64 {
    let mut cost = 1 + keywords.len() / 4;
    cost += keywords.get("enum").and_then(Value::as_array).map_or(0, Vec::len) / 4;
    match value {
        Value::String(text) => {
            let pattern = keywords.get("pattern").and_then(Value::as_str).map_or(0, str::len);
            cost += text.len().saturating_mul(pattern) / 64;
        }
        Value::Array(items) if keywords.contains_key("uniqueItems") => cost += items.len(),
        Value::Object(properties) => {
            let patterns = keywords.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
            cost += properties.len().saturating_mul(patterns);
        }
        _ => {}
    }
    u64::try_from(cost).unwrap_or(u64::MAX)
}

/// Whether something was evaluated is found out by validating again, once for each part of the value.
fn repeats(keywords: &Map<String, Value>, value: &Value) -> u64 {
    let parts = match value {
        Value::Object(properties) if keywords.contains_key("unevaluatedProperties") => properties.len(),
        Value::Array(items) if keywords.contains_key("unevaluatedItems") => items.len(),
        _ => return 1,
    };
    u64::try_from(parts).unwrap_or(u64::MAX).saturating_add(2)
}
