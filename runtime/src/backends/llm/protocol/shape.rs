//! Shapes that several protocols write and read alike. What is read keeps only what is needed: an answer full of empty
//! items takes no more memory than its own bytes.

use std::fmt;
use std::marker::PhantomData;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Malformed, Unsupported, Vectors};

/// Most bytes of a refusal that are shown.
const MESSAGE_BYTES_MAX: usize = 1000;

/// Most tool calls that are kept of one list; the answer is refused for fewer.
const CALLS_READ_MAX: usize = 256;

/// Most vectors of one answer: no request asks for more.
const VECTORS_MAX: usize = 100;

/// A text as one segment of a path: all but letters, digits and `-._~` is percent-encoded, slashes and colons too.
pub(super) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(char::from(byte)),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// The body of a request.
pub(super) fn body(of: &impl Serialize) -> Result<Vec<u8>, Unsupported> {
    serde_json::to_vec(of).map_err(|_| Unsupported("the request cannot be written as JSON".to_owned()))
}

/// A JSON schema as it is.
pub(super) fn schema<'a>(what: &str, text: &'a str) -> Result<&'a RawValue, Unsupported> {
    serde_json::from_str(text).map_err(|_| Unsupported(format!("{what} is no JSON")))
}

/// Asks for JSON in words, where the protocol has no better way.
pub(super) fn schema_in_words(schema: &RawValue) -> String {
    format!("Answer with JSON that matches this JSON schema, and with nothing else:\n{}", schema.get())
}

/// Written as Base64.
pub(super) struct Base64<'a>(pub(super) &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// The arguments of a tool call, as the JSON object that providers insist on. What a model wrote wrong goes into an
/// object as it is, so that the conversation can go on: its tool has said by then what is wrong with it.
pub(super) struct Arguments<'a>(pub(super) &'a str);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.trim();
        match serde_json::from_str::<&RawValue>(text) {
            Ok(object) if text.starts_with('{') => object.serialize(serializer),
            _ => {
                let mut object = serializer.serialize_map(None)?;
                if !text.is_empty() {
                    object.serialize_entry("arguments", text)?;
                }
                object.end()
            }
        }
    }
}

/// Something that a model said.
pub(super) enum Said {
    Text(String),
    Call { id: String, name: String, arguments: String },
}

/// Reads a list of what a model said. Items that say nothing are not kept, and text is added to the text before it.
pub(super) fn said<'de, D, P>(deserializer: D) -> Result<Vec<Said>, D::Error>
where
    D: Deserializer<'de>,
    P: Deserialize<'de> + Into<Option<Said>>,
{
    deserializer.deserialize_any(SaidVisitor::<P>(PhantomData))
}

struct SaidVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de> + Into<Option<Said>>> Visitor<'de> for SaidVisitor<P> {
    type Value = Vec<Said>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parts of an answer")
    }

    fn visit_unit<E>(self) -> Result<Vec<Said>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Said>, A::Error> {
        let mut said: Vec<Said> = Vec::new();
        let mut calls = 0;
        while let Some(item) = items.next_element::<P>()? {
            match (item.into(), said.last_mut()) {
                (None, _) => {}
                (Some(Said::Text(piece)), Some(Said::Text(text))) => text.push_str(&piece),
                (Some(Said::Text(piece)), _) => said.push(Said::Text(piece)),
                (Some(call), _) => {
                    calls += 1;
                    if calls <= CALLS_READ_MAX {
                        said.push(call);
                    }
                }
            }
        }
        Ok(said)
    }
}

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

/// The beginning of what a provider says of a refusal.
pub(super) fn clipped(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_nothing_that_ends_it() {
        assert_eq!(segment("gemini-2.5-pro_~1"), "gemini-2.5-pro_~1");
        assert_eq!(segment("a:b/c?d#e%f ä"), "a%3Ab%2Fc%3Fd%23e%25f%20%C3%A4");
    }

    #[test]
    fn arguments_are_always_an_object() {
        let written = |text: &str| serde_json::to_string(&Arguments(text)).unwrap();
        assert_eq!(written(" {\"a\": 1.50}\n"), "{\"a\": 1.50}");
        assert_eq!(written(""), "{}");
        assert_eq!(written("[1]"), "{\"arguments\":\"[1]\"}");
        assert_eq!(written("{\"a\": \"b"), "{\"arguments\":\"{\\\"a\\\": \\\"b\"}");
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let message = clipped("ä".repeat(600) + "b");
        assert_eq!(message, "ä".repeat(500));
        assert_eq!(clipped("x".to_owned() + &"ä".repeat(600)).len(), 999);
        assert_eq!(clipped("short".to_owned()), "short");
    }

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
