//! How requests and answers show: in the trace, in messages, in debug output. Blobs show as their type,
//! size and digest, and long texts by their beginning, so that what is kept of a call stays small.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Attempt, Blob, Delta, Embeddings, Part, Request, Response, ToolCall};

/// Most of one text that the trace keeps, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Most JSON of one request or answer that shows as JSON, in bytes: as a tree it may take fifteen times that.
const JSON_BYTES_MAX: usize = 64 * 1024;

/// Failed attempts that a message names.
const ATTEMPTS_SHOWN: usize = 5;

impl Request {
    /// The request as the trace keeps it. Fields that were left out are left out here too.
    pub fn trace_view(&self) -> Value {
        let mut view = Map::new();
        let mut json_left = JSON_BYTES_MAX;
        let messages = self.messages.iter().map(|message| {
            let parts: Vec<Value> = message.parts.iter().map(|part| part_view(part, &mut json_left)).collect();
            json!({ "role": message.role, "parts": parts })
        });
        view.insert("messages".to_owned(), messages.collect());
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                view.insert(key.to_owned(), value);
            }
        };
        put("tier", self.tier.map(|tier| json!(tier)));
        put("model", self.model.as_deref().map(text));
        put("max_tokens", self.max_tokens.map(Value::from));
        put("temperature", self.temperature.map(Value::from));
        put("stop", (!self.stop.is_empty()).then(|| self.stop.iter().map(|stop| text(stop)).collect()));
        put("tools", (!self.tools.is_empty()).then(|| self.tools.iter().map(|tool| text(&tool.name)).collect()));
        // As JSON where it is some, so that a reader sees the schema and not its escaped text.
        put("response_schema", self.response_schema.as_deref().map(|schema| json_or_text(schema, &mut json_left)));
        Value::Object(view)
    }
}

impl Response {
    /// The answer as the trace keeps it.
    pub fn trace_view(&self) -> Value {
        let mut json_left = JSON_BYTES_MAX;
        let parts: Vec<Value> = self.parts.iter().map(|part| part_view(part, &mut json_left)).collect();
        json!({
            "parts": parts,
            "finish_reason": self.finish_reason,
            "provider": self.provider,
            "model": self.model,
            "usage": self.usage,
            "cached": self.cached,
            "attempts": self.attempts,
        })
    }
}

impl Embeddings {
    /// How many there are, and whose.
    pub fn trace_view(&self) -> Value {
        json!({
            "vectors": self.vectors.len(),
            "provider": self.provider,
            "model": self.model,
            "usage": self.usage,
            "attempts": self.attempts,
        })
    }
}

impl Delta {
    /// The piece as the trace keeps it.
    pub fn trace_view(&self) -> Value {
        match self {
            Delta::Text(piece) => json!({ "text": text(piece) }),
            Delta::ToolCall(call) => json!({ "tool_call": tool_call(call, &mut { JSON_BYTES_MAX }) }),
            Delta::Done(response) => json!({ "done": response.trace_view() }),
        }
    }
}

impl Blob {
    /// Its type, its size and the beginning of its SHA-256.
    pub fn trace_view(&self) -> Value {
        let digest = Sha256::digest(&self.data);
        json!({
            "media_type": text(&self.media_type),
            "bytes": self.data.len(),
            "sha256": hex_of(digest.get(..8).unwrap_or_default()),
        })
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("media_type", &self.media_type).field("bytes", &self.data.len()).finish()
    }
}

fn part_view(part: &Part, json_left: &mut usize) -> Value {
    match part {
        Part::Text(said) => json!({ "text": text(said) }),
        Part::Image(blob) => json!({ "image": blob.trace_view() }),
        Part::ImageUrl(url) => json!({ "image_url": text(url) }),
        Part::Document(blob) => json!({ "document": blob.trace_view() }),
        Part::ToolCall(call) => json!({ "tool_call": tool_call(call, json_left) }),
        Part::ToolResult(result) => json!({ "tool_result": {
            "call_id": text(&result.call_id),
            "content": text(&result.content),
            "is_error": result.is_error,
        } }),
    }
}

fn tool_call(call: &ToolCall, json_left: &mut usize) -> Value {
    json!({ "id": text(&call.id), "name": text(&call.name), "arguments": json_or_text(&call.arguments, json_left) })
}

fn json_or_text(content: &str, json_left: &mut usize) -> Value {
    let left = json_left.checked_sub(content.len()).filter(|_| content.len() <= TEXT_BYTES_MAX);
    let Some(left) = left else { return text(content) };
    *json_left = left;
    serde_json::from_str(content).unwrap_or_else(|_| text(content))
}

fn text(content: &str) -> Value {
    if content.len() <= TEXT_BYTES_MAX {
        return Value::from(content);
    }
    let kept = content.get(..content.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    Value::from(format!("{kept}… ({} bytes in all)", content.len()))
}

/// What the providers said, in one line. What one said several times is there once.
pub(super) fn attempts(attempts: &[Attempt]) -> String {
    let said: Vec<(&Attempt, usize)> =
        attempts.chunk_by(said_alike).filter_map(|alike| Some((alike.first()?, alike.len()))).collect();
    let mut line = String::new();
    for (index, (attempt, times)) in said.iter().take(ATTEMPTS_SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let failure = attempt.failure.as_deref().unwrap_or("no failure");
        let _ = write!(line, "{separator}{}/{}: {failure}", attempt.provider, attempt.model);
        if *times > 1 {
            let _ = write!(line, " ({times} times)");
        }
    }
    match said.len() {
        0 => "there is none".to_owned(),
        all if all > ATTEMPTS_SHOWN => format!("{line}; and {} more", all - ATTEMPTS_SHOWN),
        _ => line,
    }
}

fn said_alike(one: &Attempt, next: &Attempt) -> bool {
    (&one.provider, &one.model, &one.failure) == (&next.provider, &next.model, &next.failure)
}

fn hex_of(bytes: &[u8]) -> String {
    hex::Hex(bytes).to_string()
}

/// Bytes as hexadecimal text: twice the size, where a list of numbers would be four times it.
pub(super) mod hex {
    use std::fmt;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) struct Hex<'a>(pub(super) &'a [u8]);

    impl fmt::Display for Hex<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // By the chunk: a call of the formatter for every byte of a large document would take seconds.
            for chunk in self.0.chunks(256) {
                let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
                let digits: String = chunk.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
                f.write_str(&digits)?;
            }
            Ok(())
        }
    }

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Hex(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => {
                Ok(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
            }
            _ => Err(D::Error::custom("the bytes of a blob must be pairs of hexadecimal digits")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::super::{FinishReason, LlmError, Message, Role, Tier, ToolResult, Usage};
    use super::*;

    fn request() -> Request {
        let blob = Blob { media_type: "image/png".to_owned(), data: vec![0, 15, 255] };
        Request {
            messages: vec![
                Message::text(Role::System, "Be brief."),
                Message {
                    role: Role::User,
                    parts: vec![
                        Part::Text("What is this?".to_owned()),
                        Part::Image(blob.clone()),
                        Part::Document(blob),
                    ],
                },
                Message {
                    role: Role::Tool,
                    parts: vec![Part::ToolResult(ToolResult {
                        call_id: "1".to_owned(),
                        content: "x".repeat(100_000),
                        is_error: false,
                    })],
                },
            ],
            tier: Some(Tier::Fast),
            temperature: Some(0.5),
            ..Request::default()
        }
    }

    #[test]
    fn a_request_round_trips_through_readable_json() {
        let json = serde_json::to_string(&request()).unwrap();
        assert!(json.contains(r#"{"image":{"media_type":"image/png","data":"000fff"}}"#), "{json}");
        assert!(json.contains(r#"{"role":"system","parts":[{"text":"Be brief."}]}"#), "{json}");
        assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request());
        assert!(serde_json::from_str::<Blob>(r#"{"media_type":"x","data":"abc"}"#).is_err());
        assert!(serde_json::from_str::<Blob>(r#"{"media_type":"x","data":"ä0"}"#).is_err());
    }

    #[test]
    fn the_trace_keeps_no_blob_and_no_endless_text() {
        let view = request().trace_view().to_string();
        assert!(view.len() < 20_000, "{} bytes", view.len());
        assert!(view.contains(r#""bytes":3"#) && !view.contains("000fff"), "{view}");
        assert!(view.contains("(100000 bytes in all)"));
        assert!(!view.contains("response_schema"), "what was not set does not show");
    }

    /// As trees, the arguments of a request of the largest size would take a gigabyte.
    #[test]
    fn many_arguments_show_as_text() {
        let call = |_| {
            let arguments = format!("[0{}]", ",0".repeat(8_000));
            Part::ToolCall(ToolCall { id: "1".to_owned(), name: "t".to_owned(), arguments })
        };
        let parts: Vec<Part> = (0..10).map(call).collect();
        let request = Request { messages: vec![Message { role: Role::Assistant, parts }], ..Request::default() };
        let view = request.trace_view();
        let arguments = |part: usize| view.pointer(&format!("/messages/0/parts/{part}/tool_call/arguments")).unwrap();
        assert!(arguments(0).is_array() && arguments(3).is_array() && arguments(4).is_string());
    }

    #[test]
    fn errors_read_as_sentences_and_round_trip() {
        let attempt = |model: &str| Attempt {
            provider: "p".to_owned(),
            model: model.to_owned(),
            latency_ms: 3,
            failure: Some("timed out".to_owned()),
        };
        let thrice = vec![attempt("a"), attempt("a"), attempt("b")];
        let why = "every provider failed: p/a: timed out (2 times); p/b: timed out";
        assert_eq!(LlmError::AllFailed(thrice).to_string(), why);
        let error = LlmError::AllFailed(vec![attempt("a"), attempt("b")]);
        let json = serde_json::to_string(&error).unwrap();
        assert!(json.starts_with(r#"{"all_failed":[{"provider":"p""#), "{json}");
        assert_eq!(serde_json::from_str::<LlmError>(&json).unwrap(), error);
    }

    #[test]
    fn deltas_and_answers_show() {
        let response = Response {
            parts: vec![Part::ToolCall(ToolCall {
                id: "1".to_owned(),
                name: "add".to_owned(),
                arguments: r#"{"a":1}"#.to_owned(),
            })],
            finish_reason: FinishReason::ToolCalls,
            provider: "offline".to_owned(),
            model: "offline-1".to_owned(),
            usage: Usage::default(),
            cached: false,
            attempts: Vec::new(),
        };
        let view = Delta::Done(response).trace_view();
        assert_eq!(view.pointer("/done/parts/0/tool_call/arguments/a"), Some(&json!(1)));
        assert_eq!(view.pointer("/done/finish_reason"), Some(&json!("tool_calls")));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_by_name() {
        let good = Request { messages: vec![Message::text(Role::User, "hi")], ..Request::default() };
        assert_eq!(good.check(), Ok(()));
        let refused = |request: Request, field: &str| {
            let error = request.check().unwrap_err().to_string();
            assert!(error.starts_with("invalid request: ") && error.contains(field), "{error}");
        };
        refused(Request::default(), "messages");
        refused(Request { max_tokens: Some(0), ..good.clone() }, "max_tokens");
        refused(Request { temperature: Some(f32::NAN), ..good.clone() }, "temperature");
        refused(Request { stop: vec![String::new()], ..good.clone() }, "stop");
        let tool = |name: &str, schema: &str| super::super::Tool {
            name: name.to_owned(),
            description: String::new(),
            parameters_schema: schema.to_owned(),
        };
        refused(Request { tools: vec![tool("a", "{}"), tool("a", "{}")], ..good.clone() }, "tools");
        refused(Request { tools: vec![tool("a", "[]")], ..good }, "parameters_schema");
    }
}
