use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Schemas made so that the work explodes: each must end, with whatever result, in a moment.
#[test]
fn bombs_fizzle() {
    let many = |count: usize, schema: Value| -> Value {
        (0..count).map(|n| (format!("p{n}"), schema.clone())).collect::<Map<String, Value>>().into()
    };
    let numbers: Value = (0..9_000).collect();
    // Objects that require eight others each, thirty levels of them.
    let fan = |depth: usize| {
        let next = |n: usize| json!({ "$ref": format!("#/$defs/d{n}") });
        let level = |n: usize| {
            let properties: Map<String, Value> = (0..8).map(|p| (format!("p{p}"), next(n + 1))).collect();
            json!({ "type": "object", "required": properties.keys().collect::<Vec<_>>(), "properties": properties })
        };
        let mut levels: Map<String, Value> = (0..depth).map(|n| (format!("d{n}"), level(n))).collect();
        levels.insert(format!("d{depth}"), json!({ "type": "integer" }));
        json!({ "$defs": levels, "$ref": "#/$defs/d0" })
    };
    let constants: Value = (0..200).map(|n| json!({ "const": n })).collect();
    let bombs = [
        fan(30),
        json!({ "allOf": [{ "enum": numbers }, { "enum": numbers }], "type": "string" }),
        json!({ "type": "array", "minItems": 10_000, "items": { "properties": many(1_500, json!({})) } }),
        json!({ "type": "array", "minItems": 10_000, "items": { "enum": numbers }, "uniqueItems": true }),
        json!({ "type": "array", "minItems": 9_000, "items": { "pattern": "^((((a*)*)*)*)*$", "minLength": 4_000 } }),
        json!({ "type": "array", "minItems": 9_000, "items": { "pattern": "[ab]{0,4000}c{4000}".repeat(8) } }),
        json!({ "type": "array", "minItems": 5_000, "items": { "anyOf": constants, "not": {} } }),
        json!({ "type": "object", "minProperties": 5_000, "propertyNames": { "enum": ["a", "b"] } }),
        json!({ "type": "object", "minProperties": 5_000, "propertyNames": { "pattern": "^[a-c]$" } }),
        json!({ "properties": many(1_000, json!({ "properties": { "x": { "$ref": "#" } }, "required": ["x"] })) }),
        json!({ "properties": { "x".repeat(20_000): { "items": { "$ref": "#" }, "type": "array", "minItems": 3 } } }),
    ];
    for bomb in bombs {
        let started = Instant::now();
        let result = made(&bomb, "x").map(|_| ());
        let shown: String = bomb.to_string().chars().take(90).collect();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} for {shown}: {result:?}", started.elapsed());
    }
}
