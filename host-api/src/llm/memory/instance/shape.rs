//! Everything that several schemas say about one value, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range as Span;

use serde_json::{Map, Value};

use super::height::{ENDLESS, Heights};
use super::number::Range;
use super::work::Work;
use crate::llm::memory::schema::resolve;
use crate::llm::memory::seed::Dice;

mod kind;

pub(super) use kind::{Kind, Kinds};

/// Items of an array that may have any number of them.
const ITEMS_USUAL: usize = 2;

/// A schema for the names that another place of the same schema does not list.
struct Others<'s> {
    listed: Option<&'s Map<String, Value>>,
    /// Names that match one of its patterns are not its business.
    patterned: bool,
    schema: &'s Value,
}

impl Others<'_> {
    fn concerns(&self, name: &str) -> bool {
        !self.patterned && !self.listed.is_some_and(|listed| listed.contains_key(name))
    }
}

/// What a value must be, one alternative having been chosen wherever there are several.
pub(super) struct Shape<'s> {
    kinds: Kinds,
    /// Kinds that keywords speak of; where several are left, these are meant.
    meant: Kinds,
    /// It is one of these.
    pub(super) choices: Option<Vec<&'s Value>>,
    /// Defaults and examples.
    suggestions: Vec<&'s Value>,
    pub(super) range: Range,
    /// Characters of a string.
    pub(super) length: Span<u64>,
    pub(super) patterns: Vec<&'s str>,
    pub(super) format: Option<&'s str>,
    pub(super) properties: BTreeMap<&'s str, Vec<&'s Value>>,
    pub(super) patterned: Vec<(&'s str, &'s Value)>,
    others: Vec<Others<'s>>,
    /// Schemas for the names that no schema lists.
    unlisted: Vec<&'s Value>,
    pub(super) required: BTreeSet<&'s str>,
    /// Names that would bring in a schema that was not looked at.
    avoided: BTreeSet<&'s str>,
    needs: Vec<(&'s str, Vec<&'s str>)>,
    pub(super) names: Vec<&'s Value>,
    pub(super) properties_least: usize,
    pub(super) properties_most: usize,
    /// Schemas of items, by the places that they apply to.
    items: Vec<(Span<usize>, &'s Value)>,
    contains: Vec<(usize, &'s Value)>,
    items_least: usize,
    items_most: usize,
    pub(super) unique: bool,
}

/// What putting together needs besides the schemas.
pub(super) struct Chooser<'s, 'd> {
    pub(super) document: &'s Value,
    pub(super) heights: &'d Heights,
    /// Levels of what can be left out that may still follow.
    pub(super) depth_left: usize,
    pub(super) dice: &'d mut Dice,
    pub(super) work: &'d mut Work,
}

impl<'s> Shape<'s> {
    /// Puts schemas together. `None` if nothing can match all of them, or the work is used up.
    pub(super) fn of(schemas: &[&'s Value], chooser: &mut Chooser<'s, '_>) -> Option<Self> {
        let mut shape = Shape {
            kinds: Kinds::ALL,
            meant: Kinds::NONE,
            choices: None,
            suggestions: Vec::new(),
            range: Range::default(),
            length: 0..u64::MAX,
            patterns: Vec::new(),
            format: None,
            properties: BTreeMap::new(),
            patterned: Vec::new(),
            others: Vec::new(),
            unlisted: Vec::new(),
            required: BTreeSet::new(),
            avoided: BTreeSet::new(),
            needs: Vec::new(),
            names: Vec::new(),
            properties_least: 0,
            properties_most: usize::MAX,
            items: Vec::new(),
            contains: Vec::new(),
            items_least: 0,
            items_most: usize::MAX,
            unique: false,
        };
        for schema in schemas {
            shape.add(schema, chooser)?;
        }
        Some(shape)
    }

    fn add(&mut self, schema: &'s Value, chooser: &mut Chooser<'s, '_>) -> Option<()> {
        let keywords = match schema {
            Value::Bool(allowed) => return allowed.then_some(()),
            schema => schema.as_object()?,
        };
        chooser.work.take(1 + self.cost_of(keywords))?;
        self.kinds = self.kinds.and(Kinds::stated(keywords));
        self.meant = self.meant.or(Kinds::spoken_of(keywords));
        self.add_choices(keywords);
        self.range.narrow(keywords);
        self.add_string(keywords);
        self.add_items(keywords);
        self.add_properties(keywords);
        self.add_branches(keywords, chooser)
    }

    /// Steps to add these: one for each entry, and for each pair of values of two lists.
    fn cost_of(&self, keywords: &Map<String, Value>) -> usize {
        let size = |value: &Value| value.as_object().map_or(0, Map::len) + value.as_array().map_or(0, Vec::len);
        let listed = keywords.get("enum").map_or(0, size);
        keywords.values().map(size).sum::<usize>() + listed * self.choices.as_ref().map_or(0, Vec::len)
    }

    fn add_choices(&mut self, keywords: &'s Map<String, Value>) {
        let listed = keywords.get("enum").and_then(Value::as_array).map(|values| values.iter().collect::<Vec<_>>());
        let only = keywords.get("const").map(|value| vec![value]);
        for values in listed.into_iter().chain(only) {
            match &mut self.choices {
                Some(choices) => choices.retain(|choice| values.contains(choice)),
                None => self.choices = Some(values),
            }
        }
        self.suggestions.extend(keywords.get("default"));
        self.suggestions.extend(keywords.get("examples").and_then(Value::as_array).into_iter().flatten());
    }

    fn add_string(&mut self, keywords: &'s Map<String, Value>) {
        let start = number_of(keywords, "minLength").unwrap_or(0).max(self.length.start);
        let end = number_of(keywords, "maxLength").map_or(u64::MAX, |most| most.saturating_add(1)).min(self.length.end);
        self.length = start..end;
        self.patterns.extend(keywords.get("pattern").and_then(Value::as_str));
        let format = ["format", "contentEncoding", "contentMediaType"].into_iter().find_map(|key| keywords.get(key));
        self.format = self.format.or(format.and_then(Value::as_str));
    }

    fn add_items(&mut self, keywords: &'s Map<String, Value>) {
        let first = ["prefixItems", "items"].into_iter().find_map(|key| keywords.get(key)?.as_array());
        let first = first.map_or(&[][..], Vec::as_slice);
        self.items.extend(first.iter().enumerate().map(|(index, schema)| (index..index + 1, schema)));
        let single = keywords.get("items").filter(|items| !items.is_array());
        let rest = single.or(keywords.get("additionalItems")).or(keywords.get("unevaluatedItems"));
        self.items.extend(rest.map(|schema| (first.len()..usize::MAX, schema)));
        if let Some(schema) = keywords.get("contains") {
            self.contains.push((size_of(keywords, "minContains").unwrap_or(1), schema));
        }
        self.items_least = self.items_least.max(size_of(keywords, "minItems").unwrap_or(0));
        self.items_most = self.items_most.min(size_of(keywords, "maxItems").unwrap_or(usize::MAX));
        self.unique |= keywords.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false);
    }

    fn add_properties(&mut self, keywords: &'s Map<String, Value>) {
        let map_of = |key: &str| keywords.get(key).and_then(Value::as_object);
        let listed = map_of("properties");
        for (name, schema) in listed.into_iter().flatten() {
            self.properties.entry(name).or_default().push(schema);
        }
        let patterned = map_of("patternProperties");
        self.patterned.extend(patterned.into_iter().flatten().map(|(pattern, schema)| (pattern.as_str(), schema)));
        if let Some(schema) = keywords.get("additionalProperties") {
            self.others.push(Others { listed, patterned: patterned.is_some(), schema });
        }
        self.unlisted.extend(keywords.get("unevaluatedProperties"));
        self.required.extend(names_in(keywords.get("required")));
        self.names.extend(keywords.get("propertyNames"));
        self.properties_least = self.properties_least.max(size_of(keywords, "minProperties").unwrap_or(0));
        self.properties_most = self.properties_most.min(size_of(keywords, "maxProperties").unwrap_or(usize::MAX));
        for (name, needed) in ["dependentRequired", "dependencies"].into_iter().filter_map(map_of).flatten() {
            self.needs.push((name, names_in(Some(needed)).collect()));
        }
    }

    fn add_branches(&mut self, keywords: &'s Map<String, Value>, chooser: &mut Chooser<'s, '_>) -> Option<()> {
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str) {
            self.add(resolve(chooser.document, target)?, chooser)?;
        }
        for schema in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.add(schema, chooser)?;
        }
        for alternatives in ["anyOf", "oneOf"].into_iter().filter_map(|key| keywords.get(key)?.as_array()) {
            self.add(chooser.choose(alternatives)?, chooser)?;
        }
        if let Some(condition) = keywords.get("if") {
            let nothing = &Value::Bool(true);
            let then = [condition, keywords.get("then").unwrap_or(nothing)];
            let otherwise = [keywords.get("else").unwrap_or(nothing), nothing];
            for schema in *chooser.dice.pick(&[then, otherwise])? {
                self.add(schema, chooser)?;
            }
        }
        let dependent =
            ["dependentSchemas", "dependencies"].into_iter().filter_map(|key| keywords.get(key)?.as_object());
        for (name, schema) in dependent.flatten().filter(|(_, schema)| !schema.is_array()) {
            if self.required.contains(name.as_str()) {
                self.add(schema, chooser)?;
            } else {
                self.avoided.insert(name);
            }
        }
        Some(())
    }

    /// The kind of value to make: the one that is meant, the plainest if it must not be deep.
    pub(super) fn kind(&self, plain: bool, dice: &mut Dice) -> Option<Kind> {
        self.kinds.in_order(self.meant, plain, dice)
    }

    /// Could it be this value, as far as can be told without a validator?
    pub(super) fn admits(&self, value: &Value) -> bool {
        let fits = match value {
            Value::Number(number) => self.range.admits(number),
            Value::String(text) => self.length.contains(&(text.chars().count() as u64)),
            Value::Array(items) => (self.items_least..=self.items_most).contains(&items.len()),
            Value::Object(object) => self.required.iter().all(|name| object.contains_key(*name)),
            Value::Null | Value::Bool(_) => true,
        };
        fits && self.kinds.admits(value)
    }

    /// The first default or example that it could be.
    pub(super) fn suggestion(&self) -> Option<&'s Value> {
        let listed = |value: &&&Value| self.choices.as_ref().is_none_or(|choices| choices.contains(value));
        self.suggestions.iter().filter(listed).find(|value| self.admits(value)).copied()
    }

    /// The schemas of the item at this place.
    pub(super) fn items_at(&self, index: usize) -> Vec<&'s Value> {
        let placed = self.items.iter().filter(|(places, _)| places.contains(&index)).map(|(_, schema)| *schema);
        let contained = self.contains.iter().scan(0, |from: &mut usize, (count, schema)| {
            let places = *from..from.saturating_add(*count);
            *from = places.end;
            Some((places, *schema))
        });
        placed.chain(contained.filter(|(places, _)| places.contains(&index)).map(|(_, schema)| schema)).collect()
    }

    pub(super) fn items_least(&self) -> usize {
        let contained = self.contains.iter().map(|(count, _)| *count).fold(0, usize::saturating_add);
        self.items_least.max(contained)
    }

    pub(super) fn items_most(&self) -> usize {
        let closed =
            self.items.iter().filter(|(_, schema)| **schema == Value::Bool(false)).map(|(places, _)| places.start);
        closed.fold(self.items_most, usize::min)
    }

    /// As many as have a place of their own, or a few.
    pub(super) fn items_usual(&self) -> usize {
        let placed = self.items.iter().filter(|(places, _)| places.end != usize::MAX).map(|(places, _)| places.end);
        placed.max().unwrap_or(ITEMS_USUAL)
    }

    /// May it have a property of this name?
    pub(super) fn allows(&self, name: &str) -> bool {
        let closed = |schema: &Value| *schema == Value::Bool(false);
        let others = self.others.iter().filter(|others| others.concerns(name)).map(|others| others.schema);
        !self.avoided.contains(name) && !others.chain(self.unlisted_for(name)).any(closed)
    }

    /// The schemas of a property.
    pub(super) fn schemas_of(&self, name: &str) -> Vec<&'s Value> {
        let mut schemas = self.properties.get(name).cloned().unwrap_or_default();
        schemas.extend(self.others.iter().filter(|others| others.concerns(name)).map(|others| others.schema));
        schemas.extend(self.unlisted_for(name));
        // Which patterns a name matches is not known here; one that was not listed was made from the first.
        if schemas.is_empty() {
            schemas.extend(self.patterned.first().map(|(_, schema)| *schema));
        }
        schemas
    }

    fn unlisted_for(&self, name: &str) -> impl Iterator<Item = &'s Value> {
        let listed = self.properties.contains_key(name);
        self.unlisted.iter().copied().filter(move |_| !listed)
    }

    /// Names that others need beside them.
    pub(super) fn needed_by(&self, names: &BTreeSet<String>) -> impl Iterator<Item = &'s str> {
        self.needs.iter().filter(|(name, _)| names.contains(*name)).flat_map(|(_, needed)| needed.iter().copied())
    }

    /// Is it a map from any name to values of one kind?
    pub(super) fn is_map(&self) -> bool {
        let typed = self.others.iter().map(|others| others.schema).chain(self.unlisted.iter().copied());
        let typed = typed.filter(|schema| schema.is_object()).count() > 0;
        self.properties.is_empty() && (typed || !self.patterned.is_empty())
    }

    /// What its names must match.
    pub(super) fn names_as_strings(&self) -> Vec<&'s Value> {
        static STRING: std::sync::LazyLock<Value> =
            std::sync::LazyLock::new(|| serde_json::json!({ "type": "string" }));
        self.names.iter().copied().chain([&*STRING]).collect()
    }
}

impl<'s> Chooser<'s, '_> {
    /// One of several schemas: any that is not too deep; the least deep where all are.
    fn choose(&mut self, schemas: &'s [Value]) -> Option<&'s Value> {
        let mut finite: Vec<&Value> = schemas.iter().filter(|schema| self.heights.get(schema) != ENDLESS).collect();
        finite.sort_by_key(|schema| self.heights.get(schema));
        let (mut shallow, mut deep): (Vec<&Value>, Vec<&Value>) =
            finite.into_iter().partition(|schema| self.heights.get(schema) < self.depth_left);
        if shallow.is_empty() {
            return self.dice.pick_in_order(&deep).copied();
        }
        // An optional value is more useful there than not there.
        shallow.sort_by_key(|schema| schema.get("type").is_some_and(|kind| kind == "null"));
        let some = shallow.partition_point(|schema| schema.get("type").is_none_or(|kind| kind != "null"));
        if some > 1 {
            shallow.get_mut(..some)?.rotate_left(self.dice.below(some as u64) as usize);
        }
        shallow.append(&mut deep);
        self.dice.pick_in_order(&shallow).copied()
    }
}

fn names_in(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A whole number that is not negative; `2.0` is one.
fn number_of(keywords: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = keywords.get(key)?;
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
}

fn size_of(keywords: &Map<String, Value>, key: &str) -> Option<usize> {
    number_of(keywords, key).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}
