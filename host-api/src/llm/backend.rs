//! What a backend for language models implements, in plain types that mirror the guest's contract.

mod check;
mod size;
mod skim;
mod view;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::Scope;

pub(super) use check::check_model;

/// Largest schema, of an answer or of a tool's arguments, in bytes.
pub(super) const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// Makes the router of one execution.
pub trait LlmBackend: Send + Sync + 'static {
    /// Opens the router of one execution. The scope is where the router takes its user from.
    ///
    /// # Errors
    /// The user's context names no provider that can be used, or it cannot be read now.
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError>;
}

impl LlmBackend for Arc<dyn LlmBackend> {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        self.as_ref().open(scope)
    }
}

/// The router of one execution: it picks the provider, asks it, and falls back to the next. Dropping
/// a future or a stream cancels the request. Requests come checked ([`Request::check`]), and
/// `max_tokens` of a request is a limit, not a wish: no more was taken from the execution's budget.
pub trait Router: Send + Sync + 'static {
    /// Asks, and gives the whole answer. An answer to a request with a response schema matches it, unless
    /// [`Router::repairs_max`] says that others look after that.
    fn complete(self: Arc<Self>, request: Request) -> BoxFuture<'static, Result<Response, LlmError>>;

    /// Asks, and gives the answer as it is written. The stream ends after [`Delta::Done`] or an error.
    fn stream(self: Arc<Self>, request: Request) -> BoxStream<'static, Result<Delta, LlmError>>;

    /// One vector for each input, in order.
    fn embed(
        self: Arc<Self>,
        model: Option<String>,
        inputs: Vec<String>,
    ) -> BoxFuture<'static, Result<Embeddings, LlmError>>;

    /// What the dearest model costs that this request may go to; `None` where that is not known. So much is taken
    /// before the request, and it is what a request costs that was given up: nobody says then what it was.
    fn price(&self, _request: &Request) -> Option<Price> {
        None
    }

    /// As [`Router::price`], for texts to embed.
    fn embedding_price(&self, _model: Option<&str>) -> Option<Price> {
        None
    }

    /// The answer to this request is of no use: it is not to be given again.
    fn forget(&self, _request: &Request) {}

    /// Tries since this was last asked of which no answer and no failure told.
    fn take_attempts_untold(&self) -> Vec<Attempt> {
        Vec::new()
    }

    /// How often a model is asked again whose answer does not match the response schema. `None` if this router's
    /// answers match by themselves.
    fn repairs_max(&self) -> Option<u32> {
        None
    }

    /// What the user's context allows an execution. It counts where it is less than the execution's budget.
    fn limits(&self) -> RouterLimits {
        RouterLimits::default()
    }

    /// Fuel for the router's own work since it was last asked, such as checking answers against their
    /// schemas ([`AnswerSchema::take_fuel_owed`](super::AnswerSchema::take_fuel_owed)): a unit is about a
    /// nanosecond. The guest pays it.
    fn take_fuel_owed(&self) -> u64 {
        0
    }
}

/// What a user's context allows one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterLimits {
    /// Tokens, input and output together.
    pub tokens: u64,
    /// Cost, in millionths of a US dollar.
    pub cost_microusd: u64,
}

impl Default for RouterLimits {
    /// No limits.
    fn default() -> Self {
        RouterLimits { tokens: u64::MAX, cost_microusd: u64::MAX }
    }
}

/// What a model costs, in millionths of a US dollar for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of the request.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl Price {
    /// The cost of so many tokens, in millionths of a US dollar, rounded up.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = u128::from(self.input) * u128::from(input_tokens);
        let output = u128::from(self.output) * u128::from(output_tokens);
        u64::try_from(input.saturating_add(output).div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Each of the two at its dearest.
    #[must_use]
    pub fn or_dearer(self, other: Price) -> Price {
        Price { input: self.input.max(other.input), output: self.output.max(other.output) }
    }

    /// The longest answer, in tokens, that this money pays for besides the input.
    pub(super) fn output_tokens_within(&self, input_tokens: u64, cost_microusd: u64) -> u64 {
        match cost_microusd.saturating_sub(self.of(input_tokens, 0)).checked_mul(1_000_000) {
            Some(left) => left.checked_div(self.output).unwrap_or(u64::MAX),
            None => u64::MAX,
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// What matters more, where the guest does not name a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// A quick and cheap answer.
    Fast,
    /// Between the two.
    Balanced,
    /// The best answer.
    Quality,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done, or wrote a stop sequence.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// It asks for tools to be called.
    ToolCalls,
    /// The provider cut the answer.
    ContentFilter,
    /// Something else.
    Other,
}

/// Bytes with their media type. In JSON the bytes are hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// `image/png`, `application/pdf`.
    pub media_type: String,
    /// The bytes.
    #[serde(with = "view::hex")]
    pub data: Vec<u8>,
}

/// A tool that the model may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Unique in the request.
    pub name: String,
    /// For the model.
    pub description: String,
    /// JSON schema of the arguments, as text.
    pub parameters_schema: String,
}

/// The model asks for a tool to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the result refers to.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// What a tool gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The [`ToolCall::id`] that this answers.
    pub call_id: String,
    /// The result, or what went wrong.
    pub content: String,
    /// The tool failed.
    pub is_error: bool,
}

/// A part of a message. JSON: `{"text": "..."}`, `{"tool_call": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(String),
    /// An image.
    Image(Blob),
    /// The address of an image, which the provider fetches.
    ImageUrl(String),
    /// A document.
    Document(Blob),
    /// The model asked for a tool.
    ToolCall(ToolCall),
    /// A tool's result.
    ToolResult(ToolResult),
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { role, parts: vec![Part::Text(text.into())] }
    }
}

/// What a guest asks of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The user's context maps a tier to a provider and a model.
    pub tier: Option<Tier>,
    /// A model by name; it goes before the tier.
    pub model: Option<String>,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// 0 for the likeliest answer, up to 2 for the most varied.
    pub temperature: Option<f32>,
    /// The answer ends before the first of these texts.
    pub stop: Vec<String>,
    /// What the model may ask for.
    pub tools: Vec<Tool>,
    /// JSON schema that the answer must match, as text.
    pub response_schema: Option<String>,
}

impl Request {
    /// What the user said last; empty if nothing. A message without text, as one of tool results, is
    /// passed over.
    pub fn last_user_text(&self) -> String {
        let said = self.messages.iter().rev().filter(|message| message.role == Role::User).map(Message::joined);
        said.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// The texts of all system messages, a line each.
    pub fn system_text(&self) -> String {
        let said = self.messages.iter().filter(|message| message.role == Role::System).map(Message::joined);
        said.collect::<Vec<_>>().join("\n")
    }
}

impl Message {
    fn joined(&self) -> String {
        let texts: Vec<&str> = self.parts.iter().filter_map(Part::as_text).collect();
        texts.join("\n")
    }
}

impl Part {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What an answer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// In millionths of a US dollar; `None` where the price is not known.
    pub cost_microusd: Option<u64>,
}

impl Usage {
    /// Both together. What costs nothing known adds nothing.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        let cost = match (self.cost_microusd, other.cost_microusd) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_microusd: cost,
        }
    }
}

/// One try at one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The provider.
    pub provider: String,
    /// Its model.
    pub model: String,
    /// Until the answer or the failure, in milliseconds.
    pub latency_ms: u64,
    /// Why it failed; `None` if it answered. For the user: no key, no address.
    pub failure: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// What the model said, in order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Who answered.
    pub provider: String,
    /// Which model of it.
    pub model: String,
    /// What it used.
    pub usage: Usage,
    /// It came from a cache: nothing was asked and nothing is billed.
    pub cached: bool,
    /// Every try, the one that answered last.
    pub attempts: Vec<Attempt>,
}

impl Response {
    /// Its texts, one after the other.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::as_text).collect()
    }
}

/// Texts as vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One for each input, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Who made them.
    pub provider: String,
    /// Which model of it.
    pub model: String,
    /// What it used; `None` where nobody counted.
    pub usage: Option<Usage>,
    /// Every try, the one that answered last.
    pub attempts: Vec<Attempt>,
}

/// A piece of an answer that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// The text goes on.
    Text(String),
    /// A tool is asked for.
    ToolCall(ToolCall),
    /// The end: the whole answer, texts included that came before.
    Done(Response),
}

/// Why there is no answer. The messages are for the user: no key, no address, no other user.
///
/// The kind says what the execution pays: nothing where no provider began (`Unavailable`, `NoProvider`, `NotBegun`,
/// `Invalid`), the input where one may have begun, and an answer too where one was written (`SchemaMismatch`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LlmError {
    /// The router cannot work now.
    #[error("language models are unavailable: {0}")]
    Unavailable(String),
    /// The user's context has no provider for this request.
    #[error("no provider: {0}")]
    NoProvider(String),
    /// No answer matched the response schema.
    #[error("the answer does not match the response schema: {0}")]
    SchemaMismatch(String),
    /// The model or the provider refuses to answer this request.
    #[error("refused: {0}")]
    Refused(String),
    /// Every provider of the fallback chain failed, and none had begun: it was not reached, or refused at once.
    #[error("every provider failed: {}", view::attempts(.0))]
    NotBegun(Vec<Attempt>),
    /// Every provider of the fallback chain failed.
    #[error("every provider failed: {}", view::attempts(.0))]
    AllFailed(Vec<Attempt>),
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(String),
}
