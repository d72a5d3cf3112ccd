//! Anthropic's messages.

mod answer;
mod request;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed test should stop there"
)]
mod tests;

use serde_json::value::RawValue;

use super::said::{self, Said};
use super::{Answer, Ask, Broken, Decoder, Framing, Malformed, Outgoing, Protocol, Refusal, Unsupported, Vectors, Why};

/// The version of the protocol that is spoken here.
const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

/// Anthropic's protocol.
pub(in super::super) struct Anthropic;

impl Protocol for Anthropic {
    fn encode(&self, ask: &Ask<'_>) -> Result<Outgoing, Unsupported> {
        Ok(Outgoing {
            path: "/messages".to_owned(),
            headers: HEADERS,
            body: request::body(ask)?,
            framing: if ask.stream { Framing::ServerSentEvents } else { Framing::Whole },
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Broken> {
        Ok(answer::whole(body)?)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::<answer::Events>::default()
    }

    fn encode_embedding(&self, _model: &str, _inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
        Err(Unsupported("Anthropic has no models for embeddings".to_owned()))
    }

    fn decode_embedding(&self, _body: &[u8]) -> Result<Vectors, Malformed> {
        Err(Malformed("Anthropic has no models for embeddings".to_owned()))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        refusal(status, Said::read(body))
    }
}

/// What was refused, and why. A wrong request has one kind, whatever is wrong with it: the words tell.
fn refusal(status: u16, said: Said) -> Refusal {
    let why = match said.kind.as_str() {
        "overloaded_error" | "api_error" | "timeout_error" => Why::Server,
        "rate_limit_error" => Why::RateLimited,
        "authentication_error" | "permission_error" | "billing_error" => Why::Key,
        "not_found_error" => Why::NotFound,
        "request_too_large" => Why::ContextLength,
        "invalid_request_error" if said.message.contains("credit balance") => Why::RateLimited,
        "invalid_request_error" if said.message.contains("content filtering policy") => Why::Content,
        _ if !matches!(status, 401 | 403 | 429) && said.is_too_long() => Why::ContextLength,
        kind => said::of_gateway(status, &said.message).unwrap_or_else(|| match kind {
            "invalid_request_error" => Why::Request,
            _ => Why::of_status(status),
        }),
    };
    Refusal { why, message: said.message }
}

/// What was refused in the middle of an answer that had begun well.
fn refusal_midway(error: Option<&RawValue>) -> Refusal {
    refusal(500, error.map(Said::of).unwrap_or_default())
}
