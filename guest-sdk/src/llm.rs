//! Language models, through the router that the host built for this execution.
//!
//! Which provider answers, with whose key and under which fallback, is the user's context; a workload names a
//! [`Tier`] at most, and never sees a key.
//!
//! ```no_run
//! # use holm_guest::{Result, llm};
//! # fn run() -> Result<()> {
//! let answer = llm::request()
//!     .system("You are a tea master.")
//!     .user("Which tea at four o'clock?")
//!     .tier(llm::Tier::Fast)
//!     .send()?;
//! println!("{} ({} tokens)", answer.text(), answer.usage.output_tokens);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::holm::host::llm as host;
use crate::{Error, Result};

pub use host::{
    Attempt, Blob, Delta, FinishReason, Message, Part, Response, Role, Tier, Tool, ToolCall, ToolResult, Usage,
};

/// Begins a request to a model.
pub fn request() -> Request {
    Request(host::Request {
        messages: Vec::new(),
        tier: None,
        model: None,
        max_tokens: None,
        temperature: None,
        stop: Vec::new(),
        tools: Vec::new(),
        response_schema: None,
    })
}

/// A request being put together; it ends with [`send`](Request::send), [`send_json`](Request::send_json),
/// [`submit`](Request::submit) or [`stream`](Request::stream).
#[must_use = "a request does nothing until it is sent"]
#[derive(Clone, Debug)]
pub struct Request(host::Request);

/// Messages, in the order of the calls.
impl Request {
    /// Adds a system message.
    pub fn system(self, text: impl Into<String>) -> Request {
        self.message(Role::System, vec![Part::Text(text.into())])
    }

    /// Adds a user message.
    pub fn user(self, text: impl Into<String>) -> Request {
        self.message(Role::User, vec![Part::Text(text.into())])
    }

    /// Adds an answer that a model gave, or might have given.
    pub fn assistant(self, text: impl Into<String>) -> Request {
        self.message(Role::Assistant, vec![Part::Text(text.into())])
    }

    /// Adds a message of any role and parts.
    pub fn message(mut self, role: Role, parts: Vec<Part>) -> Request {
        self.0.messages.push(Message { role, parts });
        self
    }

    /// Adds an answer of a model with all its parts, to go on from there.
    pub fn response(self, response: &Response) -> Request {
        self.message(Role::Assistant, response.parts.clone())
    }

    /// Adds an image to the user message before it, or as a user message of its own.
    pub fn image(self, media_type: impl Into<String>, data: Vec<u8>) -> Request {
        self.part(Role::User, Part::Image(blob(media_type, data)))
    }

    /// Adds an image by its address to the user message before it, or as a user message of its own.
    pub fn image_url(self, url: impl Into<String>) -> Request {
        self.part(Role::User, Part::ImageUrl(url.into()))
    }

    /// Adds a document to the user message before it, or as a user message of its own.
    pub fn document(self, media_type: impl Into<String>, data: Vec<u8>) -> Request {
        self.part(Role::User, Part::Document(blob(media_type, data)))
    }

    /// Adds what a tool returned for `call`, a call of the [`response`](Request::response) before it.
    pub fn tool_result(self, call: &ToolCall, content: impl Into<String>) -> Request {
        self.part(Role::Tool, tool_result(call, content.into(), false))
    }

    /// Adds why a tool failed for `call`, so that the model can do without it.
    pub fn tool_error(self, call: &ToolCall, message: impl Into<String>) -> Request {
        self.part(Role::Tool, tool_result(call, message.into(), true))
    }

    fn part(mut self, role: Role, part: Part) -> Request {
        match self.0.messages.last_mut() {
            Some(message) if message.role == role => message.parts.push(part),
            _ => return self.message(role, vec![part]),
        }
        self
    }
}

/// What is asked for.
impl Request {
    /// How good an answer is wanted; the user's context maps it to a provider and model.
    pub fn tier(mut self, tier: Tier) -> Request {
        self.0.tier = Some(tier);
        self
    }

    /// Asks for one model by name. Whether it may be had is up to the user's context.
    pub fn model(mut self, model: impl Into<String>) -> Request {
        self.0.model = Some(model.into());
        self
    }

    /// Ends the answer after this many tokens. Without it that is after 4096, or after what is left of `llm_tokens`.
    pub fn max_tokens(mut self, max_tokens: u32) -> Request {
        self.0.max_tokens = Some(max_tokens);
        self
    }

    /// How varied answers are; 0 is the least.
    pub fn temperature(mut self, temperature: f32) -> Request {
        self.0.temperature = Some(temperature);
        self
    }

    /// Ends the answer before this text; may be called several times.
    pub fn stop(mut self, text: impl Into<String>) -> Request {
        self.0.stop.push(text.into());
        self
    }

    /// Offers a tool to the model; may be called several times.
    pub fn tool(mut self, tool: Tool) -> Request {
        self.0.tools.push(tool);
        self
    }

    /// Asks for an answer in JSON that obeys this JSON schema. The host validates it before the workload sees it.
    pub fn schema(mut self, schema: &Value) -> Request {
        self.0.response_schema = Some(schema.to_string());
        self
    }

    /// Asks for an answer that is a `T`, by the JSON schema that schemars derives for it.
    #[cfg(feature = "schemars")]
    pub fn schema_of<T: schemars::JsonSchema>(self) -> Request {
        self.schema(schemars::schema_for!(T).as_value())
    }
}

/// Ways to send it.
impl Request {
    /// Asks, and waits for the answer.
    pub fn send(self) -> Result<Response> {
        Ok(host::complete(&self.0)?)
    }

    /// Asks, waits for the answer and reads it as JSON; [`schema`](Request::schema) makes sure that it is some.
    pub fn send_json<T: DeserializeOwned>(self) -> Result<T> {
        self.send()?.json()
    }

    /// Asks without waiting, so that several requests are under way at once. An error means that the request was not
    /// sent; a failure on the way comes from [`Pending::wait`].
    pub fn submit(self) -> Result<Pending> {
        Ok(Pending(host::submit(&self.0)?))
    }

    /// Asks, and reads the answer as it is written.
    pub fn stream(self) -> Result<Stream> {
        Ok(Stream(Some(host::start_stream(&self.0)?)))
    }
}

impl Response {
    /// The text of the answer, without its other parts.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The text of the answer, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let read = serde_json::from_str(&self.text());
        read.map_err(|error| Error::Json(format!("answer of {}: {error}", self.model)))
    }

    /// The tools that the model wants called before it goes on.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

impl Tool {
    /// Describes a tool to a model; `parameters` is the JSON schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: &Value) -> Tool {
        Tool { name: name.into(), description: description.into(), parameters_schema: parameters.to_string() }
    }
}

impl ToolCall {
    /// The arguments, read as JSON.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        let read = serde_json::from_str(&self.arguments);
        read.map_err(|error| Error::Json(format!("arguments of {}: {error}", self.name)))
    }
}

/// A request under way. Dropping it cancels the request; what was sent counts as used.
#[must_use = "dropping a pending request cancels it"]
#[derive(Debug)]
pub struct Pending(host::Pending);

impl Pending {
    /// Waits until the answer or its failure is there, but no longer than this; returns whether it is.
    pub fn is_ready_within(&self, timeout: Duration) -> Result<bool> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Ok(!host::wait(&[&self.0], Some(timeout_ms))?.is_empty())
    }

    /// Waits for the answer.
    pub fn wait(self) -> Result<Response> {
        loop {
            host::wait(&[&self.0], None)?;
            if let Some(answer) = self.0.get() {
                return Ok(answer?);
            }
        }
    }
}

/// Waits for all of these requests, which are under way at once, and returns their answers in the same order.
///
/// ```no_run
/// # use holm_guest::{Result, llm};
/// # fn run() -> Result<()> {
/// let questions = ["Green or black?", "Milk or lemon?"];
/// let pending: Result<Vec<_>> = questions.map(|it| llm::request().user(it).submit()).into_iter().collect();
/// for answer in llm::join(pending?) {
///     println!("{}", answer?.text());
/// }
/// # Ok(())
/// # }
/// ```
pub fn join(pending: impl IntoIterator<Item = Pending>) -> Vec<Result<Response>> {
    // All must be sent before the first is waited for, also when the iterator sends them.
    let pending: Vec<Pending> = pending.into_iter().collect();
    pending.into_iter().map(Pending::wait).collect()
}

/// Iterates over the answers of these requests as they come, each with the position of its request. Dropping the
/// iterator cancels the requests that are still under way.
///
/// ```no_run
/// # use holm_guest::{Result, llm};
/// # fn run(pending: Vec<llm::Pending>) -> Result<()> {
/// for (number, answer) in llm::as_completed(pending) {
///     println!("{number}: {}", answer?.text());
/// }
/// # Ok(())
/// # }
/// ```
pub fn as_completed(pending: impl IntoIterator<Item = Pending>) -> AsCompleted {
    AsCompleted(pending.into_iter().enumerate().collect())
}

/// See [`as_completed`].
#[must_use = "dropping it cancels the requests"]
#[derive(Debug)]
pub struct AsCompleted(Vec<(usize, Pending)>);

impl Iterator for AsCompleted {
    type Item = (usize, Result<Response>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let waiting: Vec<&host::Pending> = self.0.iter().map(|(_, pending)| &pending.0).collect();
            let ready = match host::wait(&waiting, None) {
                Ok(ready) => ready,
                // Whoever may not wait gets that as the answer to each request.
                Err(denied) => return Some((self.0.remove(0).0, Err(denied.into()))),
            };
            for position in ready {
                let position = position as usize;
                if let Some(answer) = self.0[position].1.0.get() {
                    return Some((self.0.remove(position).0, answer.map_err(Error::from)));
                }
            }
        }
        None
    }
}

/// An answer being written: an iterator of [`Delta`]s, of which the last is [`Delta::Done`] or an error.
/// Dropping it cancels the request; what was sent and what was read count as used.
///
/// ```no_run
/// # use holm_guest::{Result, llm};
/// # fn run() -> Result<()> {
/// for delta in llm::request().user("Tell me about tea").stream()? {
///     if let llm::Delta::Text(text) = delta? {
///         print!("{text}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a stream cancels the request"]
#[derive(Debug)]
pub struct Stream(Option<host::Completion>);

impl Iterator for Stream {
    type Item = Result<Delta>;

    fn next(&mut self) -> Option<Self::Item> {
        let delta = self.0.as_ref()?.next()?.map_err(Error::from);
        if matches!(delta, Ok(Delta::Done(_)) | Err(_)) {
            self.0 = None;
        }
        Some(delta)
    }
}

/// One vector an input, in order, by the model that the user's context has for embeddings. There may be 2048 inputs.
pub fn embed<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Result<Vec<Vec<f32>>> {
    embed_with(None, inputs)
}

/// Like [`embed`], by one model by name; whether it may be had is up to the user's context.
pub fn embed_with<S: Into<String>>(model: Option<&str>, inputs: impl IntoIterator<Item = S>) -> Result<Vec<Vec<f32>>> {
    let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
    Ok(host::embed(model, &inputs)?)
}

fn blob(media_type: impl Into<String>, data: Vec<u8>) -> Blob {
    Blob { media_type: media_type.into(), data }
}

fn tool_result(call: &ToolCall, content: String, is_error: bool) -> Part {
    Part::ToolResult(ToolResult { call_id: call.id.clone(), content, is_error })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(parts: Vec<Part>) -> Response {
        Response {
            parts,
            finish_reason: FinishReason::Stop,
            provider: "p".into(),
            model: "m".into(),
            usage: Usage { input_tokens: 1, output_tokens: 2, cost_microusd: None },
            cached: false,
            attempts: vec![],
        }
    }

    fn tool_call() -> ToolCall {
        ToolCall { id: "1".into(), name: "brew".into(), arguments: r#"{"cups":2}"#.into() }
    }

    #[test]
    fn parts_join_the_message_before_them_if_its_role_is_theirs() {
        let request = request()
            .system("s")
            .user("u")
            .image_url("https://example.org/tea.png")
            .response(&answer(vec![Part::ToolCall(tool_call())]))
            .tool_result(&tool_call(), "done")
            .tool_error(&tool_call(), "no water")
            .image("image/png", vec![1]);
        let shape: Vec<_> = request.0.messages.iter().map(|it| (it.role, it.parts.len())).collect();
        let expected = [(Role::System, 1), (Role::User, 2), (Role::Assistant, 1), (Role::Tool, 2), (Role::User, 1)];
        assert_eq!(shape, expected);
    }

    #[test]
    fn a_response_is_read_as_text_json_and_tool_calls() {
        let parts =
            vec![Part::Text(r#"{"tea":"#.into()), Part::ToolCall(tool_call()), Part::Text(r#""green"}"#.into())];
        let answer = answer(parts);
        assert_eq!(answer.text(), r#"{"tea":"green"}"#);
        assert_eq!(answer.json(), Ok(json!({ "tea": "green" })));
        let cups: Vec<Value> = answer.tool_calls().map(|it| it.arguments().unwrap()).collect();
        assert_eq!(cups, [json!({ "cups": 2 })]);
        assert_eq!(
            answer.json::<u32>().unwrap_err().to_string(),
            "answer of m: invalid type: map, expected u32 at line 1 column 0"
        );
    }
}
