//! Shapes that several protocols write alike.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Unsupported;

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

/// A media type without parameters, in small letters.
pub(super) fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
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
}
