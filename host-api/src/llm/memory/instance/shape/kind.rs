//! The types of JSON values, and sets of them.

use serde_json::{Map, Value};

use crate::llm::memory::seed::Dice;

/// A type, in the sense of the `type` keyword. An integer is a number too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Bool,
    Null,
}

/// All types, from the one that says most to the one that says least.
const KINDS: [(Kind, u8); 7] = [
    (Kind::Object, 1),
    (Kind::Array, 2),
    (Kind::String, 4),
    (Kind::Number, 8 | 16),
    (Kind::Integer, 16),
    (Kind::Bool, 32),
    (Kind::Null, 64),
];

/// A set of types. The bit of fractions is apart from that of integers, so that sets can be intersected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Kinds(u8);

impl Kinds {
    pub(super) const ALL: Kinds = Kinds(127);
    pub(super) const NONE: Kinds = Kinds(0);

    /// The types that a schema states; all, if it states none.
    pub(super) fn stated(keywords: &Map<String, Value>) -> Self {
        let named = |value: &Value| {
            Kinds(match value.as_str() {
                Some("object") => 1,
                Some("array") => 2,
                Some("string") => 4,
                Some("number") => 8 | 16,
                Some("integer") => 16,
                Some("boolean") => 32,
                Some("null") => 64,
                _ => 0,
            })
        };
        match keywords.get("type") {
            Some(Value::Array(names)) => names.iter().map(named).fold(Kinds::NONE, Kinds::or),
            Some(name) => named(name),
            None => Kinds::ALL,
        }
    }

    /// The types whose keywords a schema uses.
    pub(super) fn spoken_of(keywords: &Map<String, Value>) -> Self {
        let one_of =
            |keys: &[&str], kinds: u8| if keys.iter().any(|key| keywords.contains_key(*key)) { kinds } else { 0 };
        Kinds(
            one_of(&["properties", "required", "additionalProperties", "patternProperties", "propertyNames"], 1)
                | one_of(&["minProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"], 1)
                | one_of(&["items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"], 2)
                | one_of(&["pattern", "minLength", "maxLength", "format"], 4)
                | one_of(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"], 8 | 16),
        )
    }

    /// What a value of a schema is made as: what it states, or else what it speaks of.
    pub(in super::super) fn of(keywords: &Map<String, Value>) -> Self {
        let (stated, spoken_of) = (Self::stated(keywords), Self::spoken_of(keywords));
        if stated == Kinds::ALL && spoken_of != Kinds::NONE { spoken_of } else { stated }
    }

    pub(in super::super) fn has(self, kind: Kind) -> bool {
        KINDS.iter().any(|(other, bits)| *other == kind && self.0 & bits == *bits)
    }

    /// Has it a type whose values hold no others?
    pub(in super::super) fn has_scalar(self) -> bool {
        self.0 & !3 != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Kinds(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Kinds(self.0 | other.0)
    }

    pub(super) fn admits(self, value: &Value) -> bool {
        self.has(match value {
            Value::Object(_) => Kind::Object,
            Value::Array(_) => Kind::Array,
            Value::String(_) => Kind::String,
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => Kind::Integer,
            Value::Number(_) => Kind::Number,
            Value::Bool(_) => Kind::Bool,
            Value::Null => Kind::Null,
        })
    }

    /// The type to make: first those that are meant, then strings, then the rest; with `plain`, those
    /// whose values hold no others go first.
    pub(super) fn in_order(self, meant: Kinds, plain: bool, dice: &mut Dice) -> Option<Kind> {
        let mut kinds: Vec<(Kind, u8)> = KINDS.into_iter().filter(|(kind, _)| self.has(*kind)).collect();
        let rank = |(kind, bits): &(Kind, u8)| {
            let nests = matches!(kind, Kind::Object | Kind::Array);
            (plain && nests, meant.0 & bits == 0, *kind == Kind::Null, self == Kinds::ALL && *kind != Kind::String)
        };
        kinds.sort_by_key(rank);
        // A number that need not be an integer covers both; making integers too would only repeat it.
        dice.pick_in_order(&kinds).map(|(kind, _)| *kind)
    }
}
