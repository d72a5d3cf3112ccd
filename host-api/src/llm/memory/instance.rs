//! Makes an answer that matches a schema.
//!
//! First it is made from what the schema says plainly; then it is checked, and where the check fails
//! (two branches that exclude each other, a `not`, a default that is wrong) other choices are made at
//! that place and the rest stays. All of it is bounded: values, bytes, depth, tries.

mod format;
mod height;
mod number;
mod pattern;
mod shape;
mod site;
mod text;
mod work;

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::schema::{AnswerSchema, Effort};
use super::seed::{Dice, Seed};
use crate::llm::backend::LlmError;
use height::Heights;
use pattern::Patterns;
use shape::{Chooser, Kind, Shape};
use site::Site;
use text::Strings;
use work::Work;

/// Largest answer, in bytes of JSON, about.
const BYTES_MAX: usize = 64 * 1024;

/// Values made for one request, all tries together.
const VALUES_MAX: usize = 20_000;

/// An answer with as many values gets nothing more that it could do without.
const VALUES_ENOUGH: usize = 300;

/// The deepest that values nest: where they must, and where they merely may.
const DEPTH_MAX: usize = 64;
const DEPTH_ENOUGH: usize = 6;

/// Fuel for a step of the work on schemas, and for a value that is made.
const FUEL_PER_STEP: u64 = 50;
const FUEL_PER_VALUE: u64 = 1_000;

/// Tries to mend an answer.
const TRIES_MAX: usize = 48;

/// Tries for an item that must differ from those before it.
const UNIQUE_TRIES_MAX: u32 = 64;

/// Makes an answer of at most `bytes_max` bytes.
///
/// # Errors
/// [`LlmError::SchemaMismatch`], if no answer was found.
pub(super) fn instance(schema: &AnswerSchema, seed: Seed, topic: &str, bytes_max: usize) -> Result<Value, LlmError> {
    let mut maker = Maker {
        heights: Heights::of(schema.document()),
        document: schema.document(),
        seed,
        strings: Strings { topic, patterns: Patterns::default() },
        work: Work::default(),
        variations: HashMap::new(),
        lean: false,
        values: 0,
        bytes: 0,
        values_left: VALUES_MAX,
    };
    let mut effort = Effort::default();
    let made = maker.answer(schema, &mut effort, bytes_max);
    schema.owe_fuel(maker.work.taken() * FUEL_PER_STEP + maker.values_taken() * FUEL_PER_VALUE);
    made
}

/// No value could be made.
struct Stuck {
    why: String,
    cure: Cure,
}

enum Cure {
    /// Other choices at the place with this JSON pointer.
    Elsewise(String),
    /// Leaving out what can be left out.
    Smaller,
    None,
}

impl Stuck {
    fn at(site: &Site<'_>, why: impl Into<String>) -> Self {
        let cure = Cure::Elsewise(site.pointer.clone());
        match site.pointer.as_str() {
            "" => Stuck { why: why.into(), cure },
            pointer => Stuck { why: format!("at {pointer}: {}", why.into()), cure },
        }
    }

    fn too_large(what: impl Into<String>) -> Self {
        Stuck { why: what.into(), cure: Cure::Smaller }
    }
}

type Made<T> = Result<T, Stuck>;

struct Maker<'s> {
    document: &'s Value,
    heights: Heights,
    seed: Seed,
    strings: Strings<'s>,
    work: Work,
    /// How often other choices were asked for, by place.
    variations: HashMap<String, u32>,
    /// Leave out what can be left out.
    lean: bool,
    /// Values and bytes of the answer being made.
    values: usize,
    bytes: usize,
    values_left: usize,
}

impl<'s> Maker<'s> {
    fn answer(&mut self, schema: &AnswerSchema, effort: &mut Effort, bytes_max: usize) -> Result<Value, LlmError> {
        let mut why = String::new();
        for _ in 0..TRIES_MAX {
            let stuck = match self.attempt(schema, effort, bytes_max.min(BYTES_MAX)) {
                Ok(answer) => return Ok(answer),
                Err(stuck) => stuck,
            };
            why = stuck.why;
            match stuck.cure {
                Cure::Elsewise(at) => self.vary(&at),
                Cure::Smaller if !self.lean => self.lean = true,
                Cure::Smaller | Cure::None => break,
            }
        }
        Err(LlmError::SchemaMismatch(format!("the offline model finds no answer; {why}")))
    }

    fn values_taken(&self) -> u64 {
        (VALUES_MAX - self.values_left) as u64
    }

    fn attempt(&mut self, schema: &AnswerSchema, effort: &mut Effort, bytes_max: usize) -> Made<Value> {
        (self.values, self.bytes) = (0, 0);
        let answer = self.value(&[self.document], &Site::root())?;
        let bytes = answer.to_string().len();
        if bytes > bytes_max {
            return Err(Stuck::too_large(format!("the answer needs {bytes} bytes and may have {bytes_max}")));
        }
        match schema.check_within(&answer, effort) {
            Ok(()) => Ok(answer),
            Err(mismatch) => Err(Stuck { why: mismatch.to_string(), cure: Cure::Elsewise(mismatch.at) }),
        }
    }

    /// Makes other choices at a place the next time, and once those were in vain, around it.
    fn vary(&mut self, at: &str) {
        let variation = self.variations.entry(at.to_owned()).or_default();
        *variation += 1;
        if variation.is_multiple_of(4)
            && let Some((around, _)) = at.rsplit_once('/')
        {
            self.vary(around);
        }
    }

    /// A value that all of these schemas hold for.
    fn value(&mut self, schemas: &[&'s Value], site: &Site<'_>) -> Made<Value> {
        self.spend(8)?;
        if site.depth > DEPTH_MAX {
            return Err(Stuck::too_large(format!("the answer would nest deeper than {DEPTH_MAX}")));
        }
        let variation = site.variation + self.variations.get(&site.pointer).copied().unwrap_or_default();
        let mut dice = self.seed.at(&site.pointer).dice(variation);
        let shape = self.shape(schemas, site, &mut dice)?;
        if variation == 0
            && let Some(suggestion) = shape.suggestion()
        {
            return self.copy(suggestion);
        }
        if let Some(choices) = &shape.choices {
            let choices: Vec<&Value> = choices.iter().copied().filter(|value| shape.admits(value)).collect();
            let choice = dice.pick(&choices).ok_or_else(|| Stuck::at(site, "none of the values listed can match"))?;
            return self.copy(choice);
        }
        let plain = self.depth_left(site) == 0;
        let none_fits = |what: &str| Stuck::at(site, format!("no {what} can match"));
        match shape.kind(plain, &mut dice).ok_or_else(|| none_fits("type"))? {
            Kind::Null => Ok(Value::Null),
            Kind::Bool => Ok(Value::Bool(dice.pick(&[true, false]).copied().unwrap_or_default())),
            Kind::Integer => number::integer(&shape.range, &mut dice).ok_or_else(|| none_fits("integer")),
            Kind::Number => number::number(&shape.range, &mut dice).ok_or_else(|| none_fits("number")),
            Kind::String => self.string(&shape, site, &mut dice).map(Value::String),
            Kind::Array => self.array(&shape, site).map(Value::Array),
            Kind::Object => self.object(&shape, site, variation).map(Value::Object),
        }
    }

    fn shape(&mut self, schemas: &[&'s Value], site: &Site<'_>, dice: &mut Dice) -> Made<Shape<'s>> {
        let depth_left = self.depth_left(site);
        let Maker { document, heights, work, .. } = self;
        let shape = Shape::of(schemas, &mut Chooser { document, heights, depth_left, dice, work });
        shape.ok_or_else(|| {
            if self.work.is_used_up() {
                return Stuck { why: "the schema takes too much work".to_owned(), cure: Cure::None };
            }
            Stuck::at(site, "nothing can match")
        })
    }

    fn string(&mut self, shape: &Shape<'s>, site: &Site<'_>, dice: &mut Dice) -> Made<String> {
        let bytes_left = BYTES_MAX.saturating_sub(self.bytes);
        let text = self.strings.string(shape, &site.label(), bytes_left, dice, &mut self.work);
        let text = text.map_err(|fault| match fault {
            text::Fault::TooLong => Stuck::too_large("a text would be too long"),
            text::Fault::NoneFits => Stuck::at(site, "no text can match"),
        })?;
        self.spend(text.len())?;
        Ok(text)
    }

    fn array(&mut self, shape: &Shape<'s>, site: &Site<'_>) -> Made<Vec<Value>> {
        let (least, most) = (shape.items_least(), shape.items_most());
        if least > most {
            return Err(Stuck::at(site, "no number of items can match"));
        }
        if least > VALUES_MAX {
            return Err(Stuck::too_large(format!("an array must have {least} items")));
        }
        let height = shape.items_at(0).iter().map(|schema| self.heights.get(schema)).max().unwrap_or_default();
        let usual = if height < self.depth_left(site) { shape.items_usual() } else { 0 };
        let count = usual.clamp(least, most);
        let mut seen = HashSet::new();
        let mut items = Vec::new();
        for index in 0..count {
            let schemas = shape.items_at(index);
            let mut variations = 0..if shape.unique { UNIQUE_TRIES_MAX } else { 1 };
            let item = loop {
                let Some(variation) = variations.next() else { break None };
                match self.value(&schemas, &site.item(index, variation)) {
                    Ok(item) if !shape.unique || seen.insert(item.to_string()) => break Some(item),
                    Ok(_) => {}
                    Err(_) if index >= least => break None,
                    Err(stuck) => return Err(stuck),
                }
            };
            match item {
                Some(item) => items.push(item),
                None if index >= least => break,
                None => return Err(Stuck::at(site, "there are too few different items")),
            }
        }
        Ok(items)
    }

    fn object(&mut self, shape: &Shape<'s>, site: &Site<'_>, variation: u32) -> Made<Map<String, Value>> {
        let mut names: BTreeSet<String> = shape.required.iter().map(|name| (*name).to_owned()).collect();
        let mut coins = self.seed.at(&site.pointer).dice(variation);
        for (name, schemas) in &shape.properties {
            // All that can be there, in vain: none that need not be; in vain too: some.
            let wanted = match variation {
                0 => true,
                1 => false,
                _ => coins.below(2) == 0,
            };
            let height = schemas.iter().map(|schema| self.heights.get(schema)).max().unwrap_or_default();
            let fits = height < self.depth_left(site) && names.len() < shape.properties_most;
            if wanted && fits && shape.allows(name) {
                names.insert((*name).to_owned());
            }
        }
        self.fill_up(shape, site, &mut names)?;
        loop {
            let missing: Vec<&str> = shape.needed_by(&names).filter(|name| !names.contains(*name)).collect();
            if missing.is_empty() {
                break;
            }
            names.extend(missing.into_iter().map(str::to_owned));
        }
        let mut object = Map::new();
        for name in names {
            self.spend(name.len())?;
            let value = self.value(&shape.schemas_of(&name), &site.property(&name))?;
            object.insert(name, value);
        }
        Ok(object)
    }

    /// Adds names until there are as many as there must be, or as a map without fixed names should have.
    fn fill_up(&mut self, shape: &Shape<'s>, site: &Site<'_>, names: &mut BTreeSet<String>) -> Made<()> {
        let usual = if shape.is_map() && self.depth_left(site) > 1 { 2 } else { 0 };
        let wanted = shape.properties_least.max(usual.min(shape.properties_most));
        if wanted > VALUES_MAX {
            return Err(Stuck::too_large(format!("an object must have {wanted} properties")));
        }
        let declared = shape.properties.keys().filter(|name| shape.allows(name));
        for name in declared {
            if names.len() >= shape.properties_least {
                break;
            }
            names.insert((*name).to_owned());
        }
        for number in 1.. {
            if names.len() >= wanted {
                break;
            }
            let invented = match self.invent_name(shape, site, number) {
                Some(name) if shape.allows(&name) => Some(name),
                _ => None,
            };
            let in_vain = number > 2 * VALUES_ENOUGH as u32 + wanted as u32;
            match invented {
                Some(name) if !in_vain => names.insert(name),
                _ if names.len() >= shape.properties_least => break,
                _ => return Err(Stuck::at(site, "there are too few names for its properties")),
            };
        }
        Ok(())
    }

    fn invent_name(&mut self, shape: &Shape<'s>, site: &Site<'_>, number: u32) -> Option<String> {
        if !shape.names.is_empty() {
            let mut site = site.property("name");
            site.variation = number;
            let name = self.value(&shape.names_as_strings(), &site).ok()?;
            return name.as_str().map(str::to_owned);
        }
        if let Some((pattern, _)) = shape.patterned.first() {
            let mut dice = self.seed.at(&site.pointer).dice(number);
            return self.strings.patterns.sample(pattern, (0, 64), &mut dice, &mut self.work);
        }
        Some(format!("entry_{number}"))
    }

    fn copy(&mut self, value: &Value) -> Made<Value> {
        self.spend(value.to_string().len())?;
        Ok(value.clone())
    }

    /// How many levels of what can be left out may still follow.
    fn depth_left(&self, site: &Site<'_>) -> usize {
        if self.lean || self.values > VALUES_ENOUGH { 0 } else { DEPTH_ENOUGH.saturating_sub(site.depth) }
    }

    /// Counts a value, or a part of one, of about so many bytes.
    fn spend(&mut self, bytes: usize) -> Made<()> {
        self.values += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let Some(left) = self.values_left.checked_sub(1) else {
            let why = format!("it would take more than {VALUES_MAX} values");
            return Err(Stuck { why, cure: Cure::None });
        };
        self.values_left = left;
        if self.bytes > BYTES_MAX {
            return Err(Stuck::too_large(format!("the answer would have more than {BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop there")]
mod tests;
