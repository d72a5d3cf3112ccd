//! How providers speak: translation between our plain types and their bytes, and nothing else. No protocol here does I/O,
//! knows a key or looks at a clock. What comes from a provider is hostile input: it is read into types that hold what is
//! needed and no more, and a number that makes no sense is no number.

mod anthropic;
mod assemble;
mod bedrock;
mod count;
mod gemini;
mod openai;
mod read;
mod said;
mod schema;
mod write;

use super::{Provider, ProviderKind};
use crate::host_api::llm::{FinishReason, Part, Request, ToolCall};

pub(super) use anthropic::Anthropic;
pub(super) use assemble::Assembly;
pub(super) use bedrock::Bedrock;
pub(super) use count::Count;
pub(super) use gemini::Gemini;
pub(super) use openai::{Flavour, OpenAi};

/// Where OpenAI itself answers. Others that speak its protocol lag behind it.
const OPENAI_HOST: &str = "api.openai.com";

/// What the servers of one kind of provider understand.
pub(super) trait Protocol: Send + Sync {
    /// The request for an answer.
    fn encode(&self, ask: &Ask<'_>) -> Result<Outgoing, Unsupported>;

    /// Reads a whole answer.
    fn decode(&self, body: &[u8]) -> Result<Answer, Broken>;

    /// Reads an answer that comes in events.
    fn decoder(&self) -> Box<dyn Decoder>;

    /// The requests for vectors; their answers, one after the other, have one vector an input.
    fn encode_embedding(&self, model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported>;

    /// Reads the vectors of one answer.
    fn decode_embedding(&self, body: &[u8]) -> Result<Vectors, Malformed>;

    /// Reads why a request was refused.
    fn refusal(&self, status: u16, body: &[u8]) -> Refusal;
}

/// The protocol of a provider; none for the one that needs no network.
pub(super) fn of(provider: &Provider) -> Option<Box<dyn Protocol>> {
    match &provider.kind {
        ProviderKind::OpenAi if provider.url.host_str() == Some(OPENAI_HOST) => {
            Some(Box::new(OpenAi::new(Flavour::OpenAi)))
        }
        ProviderKind::OpenAi | ProviderKind::Friendli { .. } | ProviderKind::Ollama => {
            Some(Box::new(OpenAi::new(Flavour::Compatible)))
        }
        ProviderKind::Azure { api_version, deployment } => {
            let (api_version, deployment) = (api_version.clone(), deployment.clone());
            Some(Box::new(OpenAi::new(Flavour::Azure { api_version, deployment })))
        }
        ProviderKind::Anthropic => Some(Box::new(Anthropic)),
        ProviderKind::Gemini => Some(Box::new(Gemini)),
        ProviderKind::Bedrock { .. } => Some(Box::new(Bedrock)),
        ProviderKind::Offline => None,
    }
}

/// Reads the events of one answer.
pub(super) trait Decoder: Send {
    /// One event: its type, empty if it has none, and its data. What the guest can be given at once goes to `pieces`.
    fn event(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Broken>;

    /// The provider said that this was all. What it sends after that is of no interest.
    fn is_over(&self) -> bool {
        false
    }

    /// There are no more events. What broke off before its end is malformed.
    fn finish(self: Box<Self>) -> Result<Answer, Malformed>;
}

/// A request for an answer, to one model.
pub(super) struct Ask<'a> {
    pub(super) request: &'a Request,
    pub(super) model: &'a str,
    /// The answer shall come in events.
    pub(super) stream: bool,
}

/// What is sent, but for the address of the server and the key.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Goes after the provider's base address; it begins with `/` and may have a query.
    pub(super) path: String,
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// JSON.
    pub(super) body: Vec<u8>,
    pub(super) framing: Framing,
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// In one piece.
    Whole,
    /// As server-sent events.
    ServerSentEvents,
    /// As AWS's event stream.
    AwsEvents,
}

/// An answer as the provider gave it.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) parts: Vec<Part>,
    pub(super) finish_reason: FinishReason,
    pub(super) tokens: Tokens,
}

/// What the provider counted. None where it said nothing, or no number that makes sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// All of the input, what was read from a cache of the provider's included.
    pub(super) input: Option<u64>,
    /// All of the output, what the guest is not shown of it (reasoning) included.
    pub(super) output: Option<u64>,
}

/// Vectors, in the order of the inputs.
#[derive(Debug, PartialEq)]
pub(super) struct Vectors {
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) input_tokens: Option<u64>,
}

/// A piece of an answer that is being written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// The text goes on.
    Text(String),
    /// A tool is asked for; it is whole.
    ToolCall(ToolCall),
}

/// The request has something that this provider has no words for; said to the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported(pub(super) String);

/// The answer is not what the provider's protocol says; said to the user, so it quotes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

impl Malformed {
    /// Bytes that are no JSON, or not of the expected shape. Says where, not what: the text may be anybody's.
    pub(super) fn json(error: &serde_json::Error) -> Self {
        let what = if error.is_data() { "not of the expected form" } else { "no JSON" };
        Malformed(format!("the answer is {what} (line {}, column {})", error.line(), error.column()))
    }
}

/// Why an answer in events ended before its time.
#[derive(Debug, PartialEq)]
pub(super) enum Broken {
    /// The events make no sense.
    Malformed(Malformed),
    /// The provider says in the middle of it that it failed.
    Refused(Refusal),
}

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        Broken::Malformed(malformed)
    }
}

/// A request that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: Why,
    /// In the provider's words; they may quote the request, and even the key. Empty if it said nothing.
    pub(super) message: String,
}

/// What a refusal means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Too many requests, or no quota left.
    RateLimited,
    /// The server failed, or is overloaded.
    Server,
    /// The request is longer than the model can read.
    ContextLength,
    /// The key is not accepted, or not for this.
    Key,
    /// There is no such model, or no such address.
    NotFound,
    /// The request has something that this server does not do; another may.
    Unsupported,
    /// The content is not allowed by the provider.
    Content,
    /// The request is wrong: another provider would refuse it alike.
    Request,
}

impl Why {
    /// What a status means by itself.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            408 | 409 | 425 | 500..=599 => Why::Server,
            429 => Why::RateLimited,
            401..=403 => Why::Key,
            404 | 405 | 410 | 415 => Why::NotFound,
            413 => Why::ContextLength,
            _ => Why::Request,
        }
    }
}
