//! Reading JSON that nobody vouches for, into no more room than its own length asks for.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Malformed, Vectors};

/// Most items of a list whose items take more room than their text.
const FEW: usize = 512;

/// Most tool calls that are kept of one list; the answer is refused for fewer.
const CALLS_READ_MAX: usize = 256;

/// Most vectors of one answer: no request asks for more.
const VECTORS_MAX: usize = 100;

/// The first item of a list, if there is one; the others are not kept.
pub(super) struct First<T>(pub(super) Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        First(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
    type Value = First<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<First<T>, E> {
        Ok(First(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First<T>, A::Error> {
        let first = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(first))
    }
}

/// A list of a few items. More of them are an error: a list of `{}` would take many times its length.
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {FEW} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
        let mut few = Vec::new();
        while let Some(item) = items.next_element()? {
            if few.len() == FEW {
                return Err(A::Error::invalid_length(FEW + 1, &self));
            }
            few.push(item);
        }
        Ok(Few(few))
    }
}

/// Something that a model said.
pub(super) enum Item {
    Text(String),
    Call { id: String, name: String, arguments: String },
}

/// Reads a list of what a model said. Items that say nothing are not kept, and text is added to the text before it.
pub(super) fn items<'de, D, P>(deserializer: D) -> Result<Vec<Item>, D::Error>
where
    D: Deserializer<'de>,
    P: Deserialize<'de> + Into<Option<Item>>,
{
    deserializer.deserialize_any(ItemVisitor::<P>(PhantomData))
}

struct ItemVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de> + Into<Option<Item>>> Visitor<'de> for ItemVisitor<P> {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parts of an answer")
    }

    fn visit_unit<E>(self) -> Result<Vec<Item>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Item>, A::Error> {
        let mut kept: Vec<Item> = Vec::new();
        let mut calls = 0;
        while let Some(item) = items.next_element::<P>()? {
            match (item.into(), kept.last_mut()) {
                (None, _) => {}
                (Some(Item::Text(piece)), Some(Item::Text(text))) => text.push_str(&piece),
                (Some(Item::Text(piece)), _) => kept.push(Item::Text(piece)),
                (Some(call), _) => {
                    calls += 1;
                    if calls <= CALLS_READ_MAX {
                        kept.push(call);
                    }
                }
            }
        }
        Ok(kept)
    }
}

/// Reads what an answer can do without, such as its bill: nothing if it has another form.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let text = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(text.get()).unwrap_or_default())
}

/// A list of vectors, or of what holds one each, no longer than any that was asked for.
pub(super) struct Rows<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RowsVisitor(PhantomData))
    }
}

pub(super) struct RowsVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for RowsVisitor<T> {
    type Value = Rows<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of vectors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Rows<T>, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = items.next_element()? {
            if rows.len() == VECTORS_MAX {
                return Err(A::Error::custom("too many vectors"));
            }
            rows.push(row);
        }
        Ok(Rows(rows))
    }
}

/// The vectors, if all are.
pub(super) fn vectors(vectors: Vec<Vec<f32>>, input_tokens: Option<u64>) -> Result<Vectors, Malformed> {
    if vectors.iter().any(|vector| vector.is_empty() || vector.iter().any(|number| !number.is_finite())) {
        return Err(Malformed("the answer holds a vector that is empty, or has a number that is none".to_owned()));
    }
    Ok(Vectors { vectors, input_tokens })
}

/// Whether it is an object.
pub(super) fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

/// What a string says; anything else is its JSON.
pub(super) fn text(json: &RawValue) -> Result<String, Malformed> {
    if json.get().starts_with('"') {
        serde_json::from_str(json.get()).map_err(|error| Malformed::json(&error))
    } else {
        Ok(json.get().to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn more_vectors_than_were_asked_for_are_refused() {
        let read = |json: &str| serde_json::from_str::<Rows<Vec<f32>>>(json).map(|rows| rows.0.len()).ok();
        assert_eq!(read("[[1],[2]]"), Some(2));
        assert_eq!(read(&format!("[{}[1]]", "[],".repeat(VECTORS_MAX))), None);
        assert!(vectors(vec![vec![1.0], vec![]], None).is_err());
        assert!(vectors(vec![vec![f32::INFINITY]], None).is_err());
    }

    #[test]
    fn what_can_be_done_without_may_have_any_form() {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default, deserialize_with = "lenient")]
            bill: Vec<u8>,
        }
        let read = |json: &str| serde_json::from_str::<Whole>(json).unwrap().bill;
        assert_eq!(read("{\"bill\":[1,2]}"), [1, 2]);
        assert!(read("{\"bill\":{\"a\":[[[]]]}}").is_empty());
        assert!(read("{}").is_empty());
    }
}
