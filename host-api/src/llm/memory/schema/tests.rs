use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn refused(schema: &Value) -> String {
    match AnswerSchema::parse(&schema.to_string()) {
        Err(LlmError::Invalid(why)) => why,
        other => format!("not refused: {other:?}"),
    }
}

#[test]
fn a_mismatch_says_where_and_why() {
    let schema = AnswerSchema::parse(r#"{"properties":{"n":{"type":"integer"},"d":{"format":"date"}}}"#).unwrap();
    schema.check(&json!({ "n": 1, "d": "2024-02-29" })).unwrap();
    let error = schema.check(&json!({ "n": "x" })).unwrap_err().to_string();
    assert_eq!(error, r#"the answer does not match the response schema: at /n: "x" is not of type "integer""#);
    assert!(schema.check(&json!({ "d": "tomorrow" })).is_err(), "formats are asserted in every draft");
    assert!(schema.read("not JSON").unwrap_err().to_string().contains("not JSON"));
    let error = schema.check(&json!({ "n": "x".repeat(10_000) })).unwrap_err();
    assert!(error.to_string().len() < 500);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (schema, why) in [
        (json!(5), "is not a JSON schema"),
        (json!({ "type": "strin" }), "is not a JSON schema"),
        (json!({ "$ref": "http://example.com/s" }), "only references into itself"),
        (json!({ "$ref": "file:///etc/passwd" }), "only references into itself"),
        (json!({ "$ref": "#/$defs/none" }), "no schema"),
        (json!({ "$ref": "#" }), "refers to itself"),
        (json!({ "allOf": [{ "anyOf": [{ "$ref": "#/allOf/0" }] }] }), "refers to itself"),
        (json!({ "items": { "$dynamicRef": "#x" } }), "`$dynamicRef`"),
        (json!({ "x": { "$id": "http://a/b", "y": {} }, "$ref": "#/x/y" }), "`$id`"),
        (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "draft 4"),
        (json!({ "$schema": "http://example.com/own" }), "is not a JSON schema"),
        (json!({ "pattern": "^(?=a)" }), "is not a JSON schema"),
        (json!({ "pattern": "(\\pL{100}){100}" }), "is not a JSON schema"),
        (json!({ "pattern": "x".repeat(2_000) }), "a pattern of more than"),
        (json!({ "description": "x".repeat(70_000) }), "bytes"),
    ] {
        let message = refused(&schema);
        assert!(message.starts_with("`response_schema` ") && message.contains(why), "{message}");
    }
    assert!(AnswerSchema::parse("{").unwrap_err().to_string().contains("is not JSON"));
    let patterns = json!({ "allOf": (0..20).map(|n| json!({ "pattern": format!("^{n}") })).collect::<Value>() });
    assert!(refused(&patterns).contains("patterns"));
}

#[test]
fn a_property_may_be_named_like_a_keyword() {
    let schema = json!({
        "$id": "https://example.com/answer",
        "properties": { "$id": { "type": "string" }, "$ref": { "type": "string" }, "pattern": { "type": "integer" } },
        "required": ["$id"],
    });
    let schema = AnswerSchema::parse(&schema.to_string()).unwrap();
    schema.check(&json!({ "$id": "x", "$ref": "http://y", "pattern": 1 })).unwrap();
    assert!(schema.check(&json!({ "$id": 1 })).is_err());
}

/// A chain of definitions, each made of the next.
fn chain(length: usize, link: impl Fn(Value) -> Value, end: Value) -> Value {
    let next = |n: usize| json!({ "$ref": format!("#/$defs/d{n}") });
    let mut definitions: serde_json::Map<String, Value> =
        (0..length).map(|n| (format!("d{n}"), link(next(n + 1)))).collect();
    definitions.insert(format!("d{length}"), end);
    json!({ "$defs": definitions, "$ref": "#/$defs/d0" })
}

#[test]
fn schemas_made_to_take_for_ever_do_not() {
    let answer = json!({ "a": "b", "b": "c", "c": ["d", ["e"]] });
    let nested = (0..20).fold(
        json!({ "type": "object" }),
        |inner, _| json!({ "anyOf": [inner], "unevaluatedProperties": { "type": "string" } }),
    );
    let bombs = [
        chain(30, |next| json!({ "allOf": [next, next] }), json!({ "type": "object" })),
        chain(30, |next| json!({ "anyOf": [next, next, next] }), json!(false)),
        chain(30, |next| json!({ "allOf": [next], "unevaluatedProperties": true }), json!({ "type": "object" })),
        chain(30, |next| json!({ "if": next, "then": next, "else": next }), json!({ "type": "object" })),
        chain(3_000, |next| next, json!({ "type": "object" })),
        chain(1_500, |next| json!({ "properties": { "a": next } }), json!({ "type": "object" })),
        nested,
    ];
    let started = Instant::now();
    for bomb in bombs {
        if let Ok(schema) = AnswerSchema::parse(&bomb.to_string()) {
            let _ = schema.check(&answer);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn recursion_through_values_is_followed_as_deep_as_the_answer() {
    let tree = AnswerSchema::parse(r##"{"type":"array","items":{"$ref":"#"}}"##).unwrap();
    tree.check(&json!([[], [[]], [[[]]]])).unwrap();
    assert!(tree.check(&json!([[], [[1]]])).is_err());
    let twice = AnswerSchema::parse(r##"{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}]}"##).unwrap();
    let deep = (0..40).fold(json!([]), |inner, _| json!([inner]));
    let error = twice.check(&deep).unwrap_err().to_string();
    assert!(error.contains("too much work"), "{error}");
}

/// Compiling a pattern takes as long as reading a page of schema, however it is written.
#[test]
fn reading_a_schema_costs_its_length_and_its_patterns() {
    let fuel = |text: &str| AnswerSchema::parse(text).unwrap().take_fuel_owed();
    let plain = fuel(r#"{"minLength":1}"#);
    assert!(fuel(&format!("{{\"enum\":[0{}]}}", ",0".repeat(10_000))) > plain + 19_000 * 500);
    for pattern in [r#"{"pattern":"^a"}"#, r#"{"\u0070attern":"^a"}"#, r#"{"patternProperties":{"a":{}}}"#] {
        assert!(fuel(pattern) > plain + 500_000, "{pattern}");
    }
    assert!(fuel(r#"{"title":"\u00fc"}"#) < plain + 100_000);
}

#[test]
fn checking_an_answer_costs_the_steps_it_takes() {
    let schema = AnswerSchema::parse(r#"{"items":{"type":"integer"}}"#).unwrap();
    schema.take_fuel_owed();
    let fuel = |length: usize| {
        schema.read(&serde_json::to_string(&vec![1; length]).unwrap()).unwrap();
        schema.take_fuel_owed()
    };
    assert!(fuel(1_000) > 9 * fuel(100));
    assert!(fuel(1_000) >= 1_000 * 200);
    assert_eq!(schema.take_fuel_owed(), 0);
}
