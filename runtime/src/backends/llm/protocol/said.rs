//! What a server says when it refuses.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Why, read};

/// Longest message that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// What was said of a refusal; empty where nothing was.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// For people.
    pub(super) message: String,
    /// For programs: `context_length_exceeded`.
    pub(super) code: String,
    /// The kind of it: `invalid_request_error`.
    pub(super) kind: String,
}

#[derive(Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

impl Said {
    /// Reads a body: `{"error": {"message", "code", "type"}}`, one of the forms that other servers gave it, or plain
    /// text.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body<'_>>(body) else { return Said::plain(body) };
        match body.error {
            Some(error) => Said::of(error),
            None => Said::of_object(&body),
        }
    }

    /// Reads what stands in `error`: an object, or a text.
    pub(super) fn of(error: &RawValue) -> Self {
        match serde_json::from_str::<Body<'_>>(error.get()) {
            Ok(body) if read::is_object(error) => Said::of_object(&body),
            _ => Said { message: short(Some(error)), ..Said::default() },
        }
    }

    fn of_object(body: &Body<'_>) -> Self {
        Said { message: short(body.message.or(body.detail)), code: short(body.code), kind: short(body.kind) }
    }

    fn plain(body: &[u8]) -> Self {
        // Cut first: the whole of it may be long.
        let beginning = body.get(..MESSAGE_BYTES_MAX).unwrap_or(body);
        let text = String::from_utf8_lossy(beginning);
        let text = text.trim();
        // The page of some proxy says nothing to anybody.
        let message = if text.starts_with('<') { String::new() } else { clipped(text.to_owned()) };
        Said { message, ..Said::default() }
    }

    /// The status that some servers have for a code.
    pub(super) fn status(&self) -> Option<u16> {
        self.code.parse().ok().filter(|status| (400..600).contains(status))
    }

    /// Whether it is about the length of the request. Most servers have no code for it.
    pub(super) fn is_too_long(&self) -> bool {
        const WORDINGS: [&str; 6] = [
            "maximum context length",
            "context window",
            "context length",
            "context limit",
            "too many tokens",
            "prompt is too long",
        ];
        let message = self.message.to_ascii_lowercase();
        self.code == "context_length_exceeded" || WORDINGS.iter().any(|wording| message.contains(wording))
    }
}

/// What LiteLLM's gateway calls a wrong request, in whatever protocol it is asked: a key that it does not know, where it
/// has no database to look it up in, and a model that it does not have.
pub(super) fn of_gateway(status: u16, message: &str) -> Option<Why> {
    match message {
        _ if status != 400 => None,
        "No connected db." => Some(Why::Key),
        _ if message.contains("Invalid model name passed in model=") => Some(Why::NotFound),
        _ => None,
    }
}

fn short(json: Option<&RawValue>) -> String {
    json.and_then(|json| read::text(json).ok()).map(clipped).unwrap_or_default()
}

/// The beginning of what a provider says: it may be anything.
pub(super) fn clipped(mut text: String) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (body, message, code) in [
            (r#"{"error":{"message":"No.","type":"invalid_request_error","param":null,"code":"bad"}}"#, "No.", "bad"),
            (r#"{"error":{"message":"No.","code":429}}"#, "No.", "429"),
            (r#"{"error":"model 'x' not found"}"#, "model 'x' not found", ""),
            (r#"{"object":"error","message":"No.","code":400}"#, "No.", "400"),
            (r#"{"detail":"Not Found"}"#, "Not Found", ""),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
                r#"[{"loc":["body"],"msg":"field required"}]"#,
                "",
            ),
            (" upstream failed\n", "upstream failed", ""),
            ("<html>502</html>", "", ""),
            ("", "", ""),
            ("[1]", "[1]", ""),
        ] {
            let said = Said::read(body.as_bytes());
            assert_eq!((said.message.as_str(), said.code.as_str()), (message, code), "{body}");
        }
    }

    #[test]
    fn a_gateway_that_calls_all_requests_wrong_is_understood() {
        let absent =
            "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models.";
        assert_eq!(of_gateway(400, absent), Some(Why::NotFound));
        assert_eq!(of_gateway(400, "No connected db."), Some(Why::Key));
        assert_eq!(of_gateway(500, "No connected db."), None);
        assert_eq!(of_gateway(400, "`temperature` is too high"), None);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = format!("a{}", "ü".repeat(5_000));
        for body in [long.clone(), format!("{{\"error\":{{\"message\":\"{long}\"}}}}")] {
            let message = Said::read(body.as_bytes()).message;
            assert!(message.len() <= MESSAGE_BYTES_MAX && message.starts_with("aüü"), "{}", message.len());
        }
    }
}
