use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::backend::{Message, Request, Role};

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
    let schema = json!({ "properties": { "a": { "type": "string" }, "n": { "type": "number" } }, "required": ["a", "n"] });
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
        json!({ "type": "array", "items": { "enum": [1, 2, 3] }, "minItems": 3, "uniqueItems": true }),
        json!({ "type": "array", "items": { "type": "boolean" }, "uniqueItems": true, "minItems": 2 }),
        json!({ "type": "array", "items": { "type": "string", "maxLength": 2 }, "uniqueItems": true, "minItems": 20 }),
        json!({ "prefixItems": [{ "type": "string" }, { "type": "number" }], "items": false, "minItems": 2 }),
        json!({ "type": "array", "contains": { "const": 7 }, "minContains": 2, "items": { "type": "integer" } }),
        json!({ "type": "object", "additionalProperties": { "type": "integer" }, "minProperties": 3 }),
        json!({ "type": "object", "propertyNames": { "pattern": "^k[0-9]$" }, "minProperties": 2 }),
        json!({ "type": "object", "patternProperties": { "^x-": { "type": "null" } }, "additionalProperties": false, "minProperties": 2 }),
        json!({ "properties": { "a": true, "b": true }, "maxProperties": 1, "type": "object" }),
        json!({ "properties": { "a": true }, "dependentRequired": { "a": ["b"] }, "required": ["a"] }),
        json!({ "properties": { "a": { "type": "integer" } }, "dependentSchemas": { "a": { "required": ["b"] } }, "required": ["a"] }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "items": [{ "type": "null" }], "additionalItems": false, "minItems": 1 }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }),
        json!({ "oneOf": [{ "type": "integer" }, { "type": "number", "multipleOf": 0.5 }] }),
        json!({ "properties": { "a": true, "b": true }, "oneOf": [{ "required": ["a"] }, { "required": ["b"] }], "type": "object" }),
        json!({ "allOf": [
            { "properties": { "a": { "minimum": 3 } } },
            { "properties": { "a": { "type": "integer", "maximum": 3 } }, "required": ["a"] },
        ] }),
        json!({ "type": "integer", "minimum": 0, "maximum": 3, "not": { "enum": [0, 1, 2] } }),
        json!({ "type": "object", "properties": { "kind": { "enum": ["a", "b"] } }, "required": ["kind"],
            "if": { "properties": { "kind": { "const": "a" } } }, "then": { "required": ["x"] }, "else": { "required": ["y"] } }),
        json!({ "type": "object", "allOf": [{ "properties": { "a": true } }], "properties": { "b": true }, "unevaluatedProperties": false }),
        json!({ "type": "integer", "default": "wrong", "examples": [99], "maximum": 50 }),
        json!({ "type": "object", "default": { "a": 1 }, "properties": { "a": { "type": "string" } } }),
    ] {
        good(&schema);
    }
}

#[test]
fn formats_are_written_as_their_names_say() {
    for format in [
        "date", "time", "date-time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri",
        "uri-reference", "iri", "iri-reference", "uri-template", "uuid", "json-pointer", "relative-json-pointer", "regex",
        "made-up",
    ] {
        for name in ["when", "größe/~%", "", "9 lives"] {
            good(&json!({ "type": "object", "properties": { name: { "type": "string", "format": format } }, "required": [name] }));
        }
    }
    let draft = "http://json-schema.org/draft-07/schema#";
    good(&json!({ "$schema": draft, "type": "string", "contentEncoding": "base64" }));
    good(&json!({ "$schema": draft, "type": "string", "contentMediaType": "application/json" }));
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
            "properties": { "name": { "type": "string" }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } },
            "required": ["name", "children"],
            "additionalProperties": false,
        } },
        "$ref": "#/$defs/node",
    }));
    assert!(tree.pointer("/children/0/children").is_some(), "it branches where it may: {tree}");
    good(&json!({ "$defs": {
        "sum": { "type": "object", "properties": { "left": { "$ref": "#/$defs/term" }, "right": { "$ref": "#/$defs/term" } }, "required": ["left", "right"] },
        "minus": { "type": "object", "properties": { "of": { "$ref": "#/$defs/term" } }, "required": ["of"] },
        "term": { "anyOf": [{ "$ref": "#/$defs/sum" }, { "$ref": "#/$defs/minus" }, { "type": "number" }] },
    }, "$ref": "#/$defs/term" }));
    good(&json!({ "type": ["object", "null"], "properties": { "next": { "$ref": "#" } }, "required": ["next"] }));
    let forty = (0..40).fold(json!({ "type": "integer" }), |inner, n| {
        json!({ "type": "object", "properties": { format!("level_{n}"): inner }, "required": [format!("level_{n}")] })
    });
    good(&forty);
}

#[test]
fn what_cannot_be_answered_is_said_in_a_sentence() {
    for (schema, why) in [
        (json!(false), "nothing can match"),
        (json!({ "type": "string", "minimum": 1, "enum": [1] }), "none of the values listed"),
        (json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": 2, "maximum": 1 } }, "required": ["n"] }), "at /n: no integer"),
        (json!({ "type": "string", "minLength": 100_000 }), "too long"),
        (json!({ "type": "array", "minItems": 1_000_000_000, "items": {} }), "1000000000 items"),
        (json!({ "type": "array", "minItems": 15_000, "items": { "type": "string", "minLength": 10 } }), "more than 65536 bytes"),
        (json!({ "type": "object", "minProperties": 1_000_000_000 }), "1000000000 properties"),
        (json!({ "type": "object", "properties": { "next": { "$ref": "#" } }, "required": ["next"] }), "finds no answer"),
        (json!({ "type": "array", "items": { "type": "boolean" }, "uniqueItems": true, "minItems": 3 }), "too few different"),
        (json!({ "type": "string", "not": { "type": "string" } }), "finds no answer"),
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

/// Schemas made so that the work explodes: each must end, with whatever result, in a moment.
#[test]
fn bombs_fizzle() {
    let many = |count: usize, schema: Value| -> Value {
        (0..count).map(|n| (format!("p{n}"), schema.clone())).collect::<Map<String, Value>>().into()
    };
    let numbers: Value = (0..9_000).collect();
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
    let bombs = [
        fan(30),
        json!({ "allOf": [{ "enum": numbers }, { "enum": numbers }], "type": "string" }),
        json!({ "type": "array", "minItems": 10_000, "items": { "type": "object", "properties": many(1_500, json!({})) } }),
        json!({ "type": "array", "minItems": 10_000, "items": { "enum": numbers }, "uniqueItems": true }),
        json!({ "type": "array", "minItems": 9_000, "items": { "pattern": "^((((a*)*)*)*)*$", "minLength": 4_000 } }),
        json!({ "type": "array", "minItems": 9_000, "items": { "pattern": "[ab]{0,4000}c{4000}".repeat(8) } }),
        json!({ "type": "array", "minItems": 5_000, "items": { "anyOf": (0..200).map(|n| json!({ "const": n })).collect::<Value>(), "not": {} } }),
        json!({ "type": "object", "minProperties": 5_000, "propertyNames": { "enum": ["a", "b"] } }),
        json!({ "type": "object", "minProperties": 5_000, "propertyNames": { "pattern": "^[a-c]$" } }),
        json!({ "type": "object", "properties": many(1_000, json!({ "type": "object", "properties": { "x": { "$ref": "#" } }, "required": ["x"] })) }),
        json!({ "properties": { "x".repeat(20_000): { "items": { "$ref": "#" }, "type": "array", "minItems": 3 } }, "type": "object" }),
    ];
    for bomb in bombs {
        let started = Instant::now();
        let result = made(&bomb, "x").map(|_| ());
        let shown: String = bomb.to_string().chars().take(90).collect();
        println!("{:?} {shown}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} for {shown}: {result:?}", started.elapsed());
    }
}

fn scalar_schema() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "type": "null" })),
        Just(json!({ "type": "boolean" })),
        (-50_i64..50, 0_i64..50).prop_map(|(low, span)| json!({ "type": "integer", "minimum": low, "maximum": low + span })),
        (1_i64..9, any::<bool>()).prop_map(|(step, low)| json!({ "type": "integer", "multipleOf": step, if low { "exclusiveMinimum" } else { "exclusiveMaximum" }: step })),
        (-5.0..5.0, 0.1..9.0).prop_map(|(low, span): (f64, f64)| json!({ "type": "number", "exclusiveMinimum": low, "maximum": low + span })),
        prop::sample::select(vec![0.1, 0.25, 0.01, 2.5]).prop_map(|step: f64| json!({ "type": "number", "multipleOf": step, "minimum": 1 })),
        (0_u64..40, 0_u64..40).prop_map(|(least, more)| json!({ "type": "string", "minLength": least, "maxLength": least + more })),
        prop::sample::select(vec!["date", "uuid", "email", "uri", "date-time", "ipv6"]).prop_map(|format| json!({ "type": "string", "format": format })),
        ("\\^\\[a-f\\]\\{[1-4]\\}(-|_)\\(x\\|[yz]+\\)\\*\\$").prop_map(|pattern| json!({ "type": "string", "pattern": pattern })),
        prop::collection::vec(prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{0,5}".prop_map(Value::from)], 1..5).prop_map(|values| json!({ "enum": values })),
        any::<u8>().prop_map(|value| json!({ "const": { "is": value } })),
    ]
}

/// Schemas of the subset that is supported, each of which some value matches.
fn schema() -> impl Strategy<Value = Value> {
    scalar_schema().prop_recursive(4, 24, 4, |inner| {
        let named = prop::collection::btree_map("[a-z/~é ]{1,6}", inner.clone(), 0..4);
        prop_oneof![
            (named.clone(), any::<u8>(), any::<bool>()).prop_map(|(properties, required, closed)| {
                let bit = |index: usize| required.rotate_right(index as u32) & 1 == 1;
                let required: Vec<&String> = properties.keys().enumerate().filter(|(n, _)| bit(*n)).map(|(_, name)| name).collect();
                json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": !closed })
            }),
            (inner.clone(), 0_u64..4, 0_u64..3).prop_map(|(items, least, more)| json!({ "type": "array", "items": items, "minItems": least, "maxItems": least + more })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|items| json!({ "type": "array", "minItems": items.len(), "prefixItems": items, "items": false })),
            (inner.clone(), 0_u64..4).prop_map(|(values, least)| json!({ "type": "object", "additionalProperties": values, "minProperties": least })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|any_of| json!({ "anyOf": any_of })),
            inner.clone().prop_map(|one| json!({ "oneOf": [one, { "type": "array", "prefixItems": [{ "const": "other" }], "minItems": 9 }] })),
            inner.clone().prop_map(|one| json!({ "allOf": [one, {}] })),
            inner.clone().prop_map(|one| json!({ "type": "object", "properties": { "value": one, "next": { "$ref": "#" } }, "required": ["value"] })),
        ]
    })
}

/// Any JSON, made of words that mean something in a schema.
fn nonsense() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type", "properties", "items", "prefixItems", "required", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "then",
        "else", "$ref", "$defs", "a", "additionalProperties", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
        "contains", "minContains", "minimum", "maximum", "exclusiveMinimum", "multipleOf", "pattern", "patternProperties", "format",
        "propertyNames", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "default",
        "examples", "unevaluatedProperties", "unevaluatedItems", "$id", "$schema", "additionalItems", "contentEncoding",
    ]);
    let text = prop_oneof![
        prop::sample::select(vec!["object", "array", "string", "integer", "number", "#", "#/$defs/a", "#/properties/a", "a", "date", "^[a"]).prop_map(String::from),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop_oneof![-3_i64..20, any::<i64>()].prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(String::from), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_found_for_every_schema_of_the_subset(schema in schema(), topic in "[a-z]{1,9}") {
        let answer = made(&schema, &topic);
        prop_assert!(answer.is_ok(), "{}: {}", schema, answer.unwrap_err());
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        prop_assert!(validator.is_valid(&answer.unwrap()));
    }

    #[test]
    fn any_json_as_a_schema_ends_soon_and_in_order(schema in nonsense()) {
        let started = Instant::now();
        if let Err(error) = made(&schema, "x") {
            prop_assert!(matches!(error, LlmError::Invalid(_) | LlmError::SchemaMismatch(_)), "{}", error);
        }
        prop_assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn any_text_as_a_pattern_ends_soon(pattern in "[a-c.*+?(){}|0-9,^$\\\\\\[\\]-]{0,30}", least in 0_u64..50) {
        let _ = made(&json!({ "type": "string", "pattern": pattern, "minLength": least }), "x");
    }
}
