//! OpenAI's chat completions, which most other servers speak too.

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

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::said::{self, Said};
use super::write;
use super::{
    Answer, Ask, Broken, Count, Decoder, Framing, Malformed, Outgoing, Protocol, Refusal, Unsupported, Vectors, Why,
};

/// Texts that go to `/embeddings` at once. OpenAI takes more; some of the others take less than that.
const INPUTS_MAX: usize = 256;

/// OpenAI's protocol.
pub(in super::super) struct OpenAi {
    flavour: Flavour,
}

/// Whose version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Flavour {
    /// OpenAI's own.
    OpenAi,
    /// That of the others: vLLM, Groq, Together, LM Studio, LiteLLM, OpenRouter, Friendli, Ollama.
    Compatible,
    /// Azure's.
    Azure {
        /// Such as `2024-10-21`.
        api_version: String,
        /// Where all requests go; by default to the deployment that has the model's name.
        deployment: Option<String>,
    },
}

impl OpenAi {
    pub(in super::super) fn new(flavour: Flavour) -> Self {
        OpenAi { flavour }
    }

    fn path(&self, model: &str, end: &str) -> Result<String, Unsupported> {
        let Flavour::Azure { api_version, deployment } = &self.flavour else { return Ok(end.to_owned()) };
        let deployment = deployment.as_deref().unwrap_or(model);
        // In an address, dots alone are no name: they lead out of the folder, however they are written.
        if matches!(deployment, "" | "." | "..") {
            return Err(Unsupported("Azure needs the name of a deployment".to_owned()));
        }
        let (deployment, api_version) = (write::segment(deployment), write::segment(api_version));
        Ok(format!("/openai/deployments/{deployment}{end}?api-version={api_version}"))
    }
}

impl Protocol for OpenAi {
    fn encode(&self, ask: &Ask<'_>) -> Result<Outgoing, Unsupported> {
        Ok(Outgoing {
            path: self.path(ask.model, "/chat/completions")?,
            headers: &[],
            body: request::body(ask, &self.flavour)?,
            framing: if ask.stream { Framing::ServerSentEvents } else { Framing::Whole },
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Broken> {
        answer::whole(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::<answer::Events>::default()
    }

    fn encode_embedding(&self, model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
        let path = self.path(model, "/embeddings")?;
        let request = |input| -> Result<Outgoing, Unsupported> {
            let body = write::body(&EmbeddingBody { model, input, encoding_format: "float" })?;
            Ok(Outgoing { path: path.clone(), headers: &[], body, framing: Framing::Whole })
        };
        inputs.chunks(INPUTS_MAX).map(request).collect()
    }

    fn decode_embedding(&self, body: &[u8]) -> Result<Vectors, Malformed> {
        let Embeddings { mut data, usage } = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
        data.sort_by_key(|item| item.index);
        if data.iter().zip(0..).any(|(item, index)| item.index != index) {
            return Err(Malformed("the answer does not have one vector for each text".to_owned()));
        }
        if data.iter().flat_map(|item| &item.embedding).any(|number| !number.is_finite()) {
            return Err(Malformed("a vector of the answer has a number that is too large".to_owned()));
        }
        let vectors = data.into_iter().map(|item| item.embedding).collect();
        Ok(Vectors { vectors, input_tokens: Usage::read(usage).prompt_tokens.0 })
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        refusal(status, Said::read(body))
    }
}

/// What was refused, and why. The code says it best, then the words: most servers have no codes.
fn refusal(status: u16, said: Said) -> Refusal {
    let why = match (said.code.as_str(), said.kind.as_str()) {
        ("insufficient_quota" | "rate_limit_exceeded", _) | (_, "insufficient_quota") => Why::RateLimited,
        ("content_policy_violation" | "content_filter", _) => Why::Content,
        ("model_not_found" | "DeploymentNotFound", _) => Why::NotFound,
        ("invalid_api_key", _) => Why::Key,
        // "Too many tokens" is said of too many a minute, too.
        _ if !matches!(status, 401 | 403 | 429) && said.is_too_long() => Why::ContextLength,
        // Many servers that speak the protocol have no structured answers.
        _ if status == 400 && said.message.contains("response_format") => Why::Unsupported,
        _ => said::of_gateway(status, &said.message).unwrap_or_else(|| Why::of_status(status)),
    };
    Refusal { why, message: said.message }
}

/// What was refused in the middle of an answer that had begun well. Some servers have a status there, too.
fn refusal_midway(error: &RawValue) -> Refusal {
    let said = Said::of(error);
    let status = match said.kind.as_str() {
        "invalid_request_error" | "BadRequestError" => 400,
        "rate_limit_error" | "rate_limit_exceeded" => 429,
        _ => 500,
    };
    refusal(said.status().unwrap_or(status), said)
}

#[derive(Serialize)]
struct EmbeddingBody<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    data: Vec<Embedding>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Embedding {
    index: u64,
    embedding: Vec<f32>,
}

/// What was counted.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: Count,
    completion_tokens: Count,
}

impl Usage {
    /// Reads it. An answer is not thrown away because its bill has another form.
    fn read(usage: Option<&RawValue>) -> Self {
        usage.and_then(|usage| serde_json::from_str(usage.get()).ok()).unwrap_or_default()
    }
}
