//! How deep the smallest value of each schema is: what tells a recursive schema where to end.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::shape::{Kind, Kinds};
use crate::llm::memory::schema::{resolve, schemas};

/// No finite value matches.
pub(super) const ENDLESS: usize = usize::MAX;

/// A schema whose heights have not settled by then needs deeper answers than are made.
const PASSES_MAX: usize = 80;

/// The least depth of a value, by schema.
pub(super) struct Heights(HashMap<*const Value, usize>);

impl Heights {
    /// Looks at all schemas of a document until nothing changes: a schema is as deep as the deepest
    /// value that it requires, and of its alternatives the least deep counts.
    pub(super) fn of(document: &Value) -> Self {
        let schemas = schemas(document).unwrap_or_default();
        let mut heights = Heights(HashMap::new());
        for _ in 0..PASSES_MAX {
            let mut changed = false;
            // The inner ones first, so that most schemas settle in one pass.
            for schema in schemas.iter().rev() {
                let height = schema.as_object().map_or(0, |keywords| heights.compute(document, keywords));
                changed |= heights.0.insert(*schema, height) != Some(height);
            }
            if !changed {
                break;
            }
        }
        heights
    }

    /// The height of a schema of the document.
    pub(super) fn get(&self, schema: &Value) -> usize {
        match schema {
            Value::Bool(true) => 0,
            schema => self.0.get(&std::ptr::from_ref(schema)).copied().unwrap_or(ENDLESS),
        }
    }

    fn compute(&self, document: &Value, keywords: &Map<String, Value>) -> usize {
        let of_all = |key: &str| -> Vec<usize> {
            let schemas = keywords.get(key).and_then(Value::as_array);
            schemas.into_iter().flatten().map(|schema| self.get(schema)).collect()
        };
        let mut height = self.own(keywords);
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|name| resolve(document, name)) {
            height = height.max(self.get(target));
        }
        height = of_all("allOf").into_iter().fold(height, usize::max);
        for alternatives in ["anyOf", "oneOf"].map(of_all) {
            height = height.max(alternatives.into_iter().min().unwrap_or(0));
        }
        height
    }

    /// What the values in it make of the height.
    fn own(&self, keywords: &Map<String, Value>) -> usize {
        if keywords.contains_key("enum") || keywords.contains_key("const") {
            return 0;
        }
        let kinds = Kinds::of(keywords);
        let within = |deepest: Option<usize>| deepest.map_or(0, |height| height.saturating_add(1));
        let mut least = ENDLESS;
        if kinds.has_scalar() {
            least = 0;
        }
        if kinds.has(Kind::Object) {
            let properties = keywords.get("properties").and_then(Value::as_object);
            let required = keywords.get("required").and_then(Value::as_array).into_iter().flatten();
            let schema_of = |name: &Value| properties.and_then(|properties| properties.get(name.as_str()?));
            least = least.min(within(required.map(|name| schema_of(name).map_or(0, |s| self.get(s))).max()));
        }
        if kinds.has(Kind::Array) {
            let items_min = keywords.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let needed = usize::try_from(items_min).unwrap_or(usize::MAX);
            let first = ["prefixItems", "items"].into_iter().filter_map(|key| keywords.get(key)?.as_array()).flatten();
            let rest = keywords.get("items").filter(|items| !items.is_array());
            let items = first.chain(rest).take(needed);
            least = least.min(within(items.map(|schema| self.get(schema)).max()));
        }
        least
    }
}
