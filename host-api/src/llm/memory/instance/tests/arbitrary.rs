use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn number_schema() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-50_i64..50, 0_i64..50)
            .prop_map(|(low, span)| json!({ "type": "integer", "minimum": low, "maximum": low + span })),
        (1_i64..9, any::<bool>()).prop_map(|(step, above)| {
            let bound = if above { "exclusiveMinimum" } else { "exclusiveMaximum" };
            json!({ "type": "integer", "multipleOf": step, bound: step })
        }),
        (-5.0..5.0, 0.1..9.0).prop_map(|(low, span): (f64, f64)| {
            json!({ "type": "number", "exclusiveMinimum": low, "maximum": low + span })
        }),
        prop::sample::select(vec![0.1, 0.25, 0.01, 2.5])
            .prop_map(|step: f64| json!({ "type": "number", "multipleOf": step, "minimum": 1 })),
    ]
}

fn string_schema() -> impl Strategy<Value = Value> {
    let formats = vec!["date", "uuid", "email", "uri", "date-time", "ipv6"];
    let pattern = "\\^\\[a-f\\]\\{[1-4]\\}(-|_)\\(x\\|[yz]+\\)\\*\\$";
    prop_oneof![
        (0_u64..40, 0_u64..40)
            .prop_map(|(least, more)| json!({ "type": "string", "minLength": least, "maxLength": least + more })),
        prop::sample::select(formats).prop_map(|format| json!({ "type": "string", "format": format })),
        pattern.prop_map(|pattern| json!({ "type": "string", "pattern": pattern })),
    ]
}

fn scalar_schema() -> impl Strategy<Value = Value> {
    let value = prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{0,5}".prop_map(Value::from)];
    prop_oneof![
        Just(json!({ "type": "null" })),
        Just(json!({ "type": "boolean" })),
        number_schema(),
        string_schema(),
        prop::collection::vec(value, 1..5).prop_map(|values| json!({ "enum": values })),
        any::<u8>().prop_map(|value| json!({ "const": { "is": value } })),
    ]
}

fn object_schema(inner: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> {
    let named = prop::collection::btree_map("[a-z/~é ]{1,6}", inner.clone(), 0..4);
    prop_oneof![
        (named, any::<u8>(), any::<bool>()).prop_map(|(properties, bits, open)| {
            let required = |index: usize| bits.rotate_right(index as u32) & 1 == 1;
            let required: Vec<&String> =
                properties.keys().enumerate().filter(|(index, _)| required(*index)).map(|(_, name)| name).collect();
            json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": open,
            })
        }),
        (inner.clone(), 0_u64..4).prop_map(|(values, least)| {
            json!({ "type": "object", "additionalProperties": values, "minProperties": least })
        }),
        inner.prop_map(|one| {
            json!({ "type": "object", "properties": { "value": one, "next": { "$ref": "#" } }, "required": ["value"] })
        }),
    ]
}

/// Schemas of the subset that is supported, each of which some value matches.
fn schema() -> impl Strategy<Value = Value> {
    scalar_schema().prop_recursive(4, 24, 4, |inner| {
        // Nothing else that is made here has nine items.
        let other = json!({ "type": "array", "prefixItems": [{ "const": "other" }], "minItems": 9 });
        prop_oneof![
            object_schema(inner.clone()),
            (inner.clone(), 0_u64..4, 0_u64..3).prop_map(|(items, least, more)| {
                json!({ "type": "array", "items": items, "minItems": least, "maxItems": least + more })
            }),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|items| {
                json!({ "type": "array", "minItems": items.len(), "prefixItems": items, "items": false })
            }),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|any_of| json!({ "anyOf": any_of })),
            inner.clone().prop_map(move |one| json!({ "oneOf": [one, other] })),
            inner.prop_map(|one| json!({ "allOf": [one, {}] })),
        ]
    })
}

/// Words that mean something in a schema, and one that does not.
const WORDS: &str = "a type properties items prefixItems required enum const allOf anyOf oneOf not if then else \
    $ref $defs additionalProperties minLength maxLength minItems maxItems uniqueItems contains minContains minimum \
    maximum exclusiveMinimum multipleOf pattern patternProperties format propertyNames minProperties maxProperties \
    dependentRequired dependentSchemas dependencies default examples unevaluatedProperties unevaluatedItems $id \
    $schema additionalItems contentEncoding";

const VALUES: &str = "object array string integer number # #/$defs/a #/properties/a a date ^[a";

/// Any JSON, made of such words.
fn nonsense() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS.split_whitespace().collect::<Vec<_>>());
    let value = prop::sample::select(VALUES.split_whitespace().collect::<Vec<_>>());
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop_oneof![-3_i64..20, any::<i64>()].prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![value.prop_map(String::from), any::<String>()].prop_map(Value::from),
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
