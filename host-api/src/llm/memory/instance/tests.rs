mod arbitrary;
mod bombs;

use serde_json::json;

use super::*;
use crate::llm::backend::{Message, Request, Role};

const DRAFT_7: &str = "http://json-schema.org/draft-07/schema#";

fn seed(text: &str) -> Seed {
    Seed::of(&Request { messages: vec![Message::text(Role::User, text)], ..Request::default() })
}

/// The answer, which `instance` has checked already.
fn made(schema: &Value, topic: &str) -> Result<Value, LlmError> {
    let schema = AnswerSchema::parse(&schema.to_string())?;
    instance(&schema, seed(topic), topic, usize::MAX)
}

fn good(schema: &Value) -> Value {
    for topic in ["one", "two", "three"] {
        made(schema, topic).unwrap_or_else(|error| panic!("{schema}: {error}"));
    }
    made(schema, "a bakery").unwrap()
}

#[test]
fn a_structured_answer_reads_like_one() {
    let answer = good(&json!({
        "type": "object",
        "properties": {
            "criticism": { "type": "string" },
            "severity": { "type": "integer", "minimum": 1, "maximum": 5 },
            "next_steps": { "type": "array", "items": { "type": "string" } },
        },
        "required": ["criticism", "severity", "next_steps"],
        "additionalProperties": false,
    }));
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap();
    assert!(text("/criticism").starts_with("criticism: on 'a bakery', "), "{answer}");
    assert!(text("/next_steps/1").starts_with("next steps 2: on 'a bakery', "), "{answer}");
}

#[test]
fn the_answer_depends_on_the_request_and_on_nothing_else() {
    let schema =
        json!({ "properties": { "a": { "type": "string" }, "n": { "type": "number" } }, "required": ["a", "n"] });
    assert_eq!(made(&schema, "one").unwrap(), made(&schema, "one").unwrap());
    assert_ne!(made(&schema, "one").unwrap(), made(&schema, "two").unwrap());
}

#[test]
fn every_keyword_that_says_something_is_obeyed() {
    for schema in [
        json!(true),
        json!({}),
        json!({ "const": { "a": [1, null] } }),
        json!({ "enum": ["a", 1, null], "type": ["integer", "null"] }),
        json!({ "type": ["string", "null"], "minLength": 200, "maxLength": 210 }),
        json!({ "type": "string", "maxLength": 3 }),
        json!({ "type": "string", "maxLength": 0 }),
        json!({ "type": "integer", "exclusiveMinimum": 3, "maximum": 4 }),
        json!({ "type": "integer", "minimum": 9_007_199_254_740_993_u64, "maximum": 9_007_199_254_740_993_u64 }),
        json!({ "type": "integer", "maximum": -7.5, "multipleOf": 4 }),
        json!({ "type": "integer", "allOf": [{ "multipleOf": 6 }, { "multipleOf": 4 }], "minimum": 1, "maximum": 23 }),
        json!({ "type": "integer", "multipleOf": 0.75, "minimum": 1 }),
        json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 }),
        json!({ "type": "number", "minimum": 0.05, "maximum": 0.95, "multipleOf": 0.05 }),
        json!({ "type": "number", "minimum": -1e308, "maximum": 1e308 }),
        json!({ "type": "number", "minimum": 0.1, "maximum": 0.1 }),
        json!({ "type": "integer", "minimum": i64::MIN, "maximum": u64::MAX }),
        json!({ "type": "array", "items": { "enum": [1, 2, 3] }, "minItems": 3, "uniqueItems": true }),
        json!({ "type": "array", "items": { "type": "boolean" }, "uniqueItems": true, "minItems": 2 }),
        json!({ "type": "array", "items": { "type": "string", "maxLength": 2 }, "uniqueItems": true, "minItems": 20 }),
        json!({ "prefixItems": [{ "type": "string" }, { "type": "number" }], "items": false, "minItems": 2 }),
        json!({ "type": "array", "contains": { "const": 7 }, "minContains": 2, "items": { "type": "integer" } }),
        json!({ "type": "object", "additionalProperties": { "type": "integer" }, "minProperties": 3 }),
        json!({ "type": "object", "propertyNames": { "pattern": "^k[0-9]$" }, "minProperties": 2 }),
        json!({ "patternProperties": { "^x-": { "const": 1 } }, "additionalProperties": false, "minProperties": 2 }),
        json!({ "properties": { "a": true, "b": true }, "maxProperties": 1, "type": "object" }),
        json!({ "properties": { "a": true }, "dependentRequired": { "a": ["b"] }, "required": ["a"] }),
        json!({ "properties": { "a": true }, "dependentSchemas": { "a": { "required": ["b"] } }, "required": ["a"] }),
        json!({ "$schema": DRAFT_7, "items": [{ "type": "null" }], "additionalItems": false, "minItems": 1 }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }),
        json!({ "oneOf": [{ "type": "integer" }, { "type": "number", "multipleOf": 0.5 }] }),
        json!({ "properties": { "a": true, "b": true }, "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
        json!({ "allOf": [
            { "properties": { "a": { "minimum": 3 } } },
            { "properties": { "a": { "type": "integer", "maximum": 3 } }, "required": ["a"] },
        ] }),
        json!({ "type": "integer", "minimum": 0, "maximum": 3, "not": { "enum": [0, 1, 2] } }),
        json!({
            "properties": { "kind": { "enum": ["a", "b"] } },
            "required": ["kind"],
            "if": { "properties": { "kind": { "const": "a" } } },
            "then": { "required": ["x"] },
            "else": { "required": ["y"] },
        }),
        json!({ "allOf": [{ "properties": { "a": {} } }], "properties": { "b": {} }, "unevaluatedProperties": false }),
        json!({ "type": "integer", "default": "wrong", "examples": [99], "maximum": 50 }),
        json!({ "type": "object", "default": { "a": 1 }, "properties": { "a": { "type": "string" } } }),
    ] {
        good(&schema);
    }
}

#[test]
fn formats_are_written_as_their_names_say() {
    let internet =
        "email idn-email hostname idn-hostname ipv4 ipv6 uri uri-reference iri iri-reference uri-template uuid";
    let others = "date time date-time duration json-pointer relative-json-pointer regex made-up";
    for format in internet.split(' ').chain(others.split(' ')) {
        for name in ["when", "größe/~%", "", "9 lives"] {
            let text = json!({ "type": "string", "format": format });
            good(&json!({ "type": "object", "properties": { name: text }, "required": [name] }));
        }
    }
    good(&json!({ "$schema": DRAFT_7, "type": "string", "contentEncoding": "base64" }));
    good(&json!({ "$schema": DRAFT_7, "type": "string", "contentMediaType": "application/json" }));
}

#[test]
fn defaults_and_examples_are_used_where_they_are_right() {
    let answer = good(&json!({
        "properties": {
            "a": { "type": "string", "default": "as given" },
            "b": { "type": "integer", "default": "wrong", "examples": [500, 7], "maximum": 10 },
            "c": { "type": "string", "pattern": "^[0-9]+$", "default": "no digits" },
        },
        "required": ["a", "b", "c"],
    }));
    assert_eq!((answer.pointer("/a"), answer.pointer("/b")), (Some(&json!("as given")), Some(&json!(7))));
}

#[test]
fn recursive_schemas_end() {
    let tree = good(&json!({
        "$defs": { "node": {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "children": { "type": "array", "items": { "$ref": "#/$defs/node" } },
            },
            "required": ["name", "children"],
            "additionalProperties": false,
        } },
        "$ref": "#/$defs/node",
    }));
    assert!(tree.pointer("/children/0/children").is_some(), "it branches where it may: {tree}");
    let term = json!({ "$ref": "#/$defs/term" });
    good(&json!({
        "$defs": {
            "sum": { "type": "object", "properties": { "left": term, "right": term }, "required": ["left", "right"] },
            "minus": { "type": "object", "properties": { "of": term }, "required": ["of"] },
            "term": { "anyOf": [{ "$ref": "#/$defs/sum" }, { "$ref": "#/$defs/minus" }, { "type": "number" }] },
        },
        "$ref": "#/$defs/term",
    }));
    good(&json!({ "type": ["object", "null"], "properties": { "next": { "$ref": "#" } }, "required": ["next"] }));
    let forty = (0..40).fold(json!({ "type": "integer" }), |inner, n| {
        json!({ "type": "object", "properties": { format!("level_{n}"): inner }, "required": [format!("level_{n}")] })
    });
    good(&forty);
}

#[test]
fn what_cannot_be_answered_is_said_in_a_sentence() {
    let no_integer = json!({ "type": "integer", "multipleOf": 9, "minimum": 1, "maximum": 8 });
    for (schema, why) in [
        (json!(false), "nothing can match"),
        (json!({ "type": "string", "minimum": 1, "enum": [1] }), "none of the values listed"),
        (json!({ "type": "object", "properties": { "n": no_integer }, "required": ["n"] }), "at /n: no integer"),
        (json!({ "type": "string", "minLength": 100_000 }), "too long"),
        (json!({ "type": "array", "minItems": 1_000_000_000, "items": {} }), "1000000000 items"),
        (
            json!({ "type": "array", "minItems": 15_000, "items": { "type": "string", "minLength": 10 } }),
            "more than 65536 bytes",
        ),
        (json!({ "type": "object", "minProperties": 1_000_000_000 }), "1000000000 properties"),
        (
            json!({ "type": "object", "properties": { "next": { "$ref": "#" } }, "required": ["next"] }),
            "finds no answer",
        ),
        (
            json!({ "type": "array", "items": { "type": "boolean" }, "uniqueItems": true, "minItems": 3 }),
            "too few different",
        ),
        (json!({ "type": "string", "not": { "type": "string" } }), "finds no answer"),
        (json!({ "type": "integer", "maximum": -1e300 }), "no integer"),
    ] {
        let error = made(&schema, "x").unwrap_err();
        assert!(matches!(error, LlmError::SchemaMismatch(_)) && error.to_string().contains(why), "{schema}: {error}");
    }
}

#[test]
fn an_answer_gets_as_small_as_it_must() {
    let schema = json!({
        "type": "object",
        "properties": { "score": { "type": "integer" }, "why": { "type": "string" } },
        "required": ["score"],
    });
    let schema = AnswerSchema::parse(&schema.to_string()).unwrap();
    let within = |bytes| instance(&schema, seed("x"), "x", bytes);
    assert!(within(usize::MAX).unwrap().get("why").is_some());
    assert!(within(20).unwrap().get("why").is_none());
    assert!(within(4).unwrap_err().to_string().contains("needs"));
}
