//! An answer in OpenAI's words.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::read::{self, Few, First};
use super::super::{Answer, Assembly, Broken, Count, Decoder, Malformed, Piece, Tokens};
use super::{Usage, refusal_midway};
use crate::host_api::llm::{FinishReason, ToolCall};

/// A whole answer, or one event of it.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    choices: Option<First<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    delta: Option<Message<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Few<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Default, Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl Function<'_> {
    /// As the model wrote them; some servers give the object instead of its text.
    fn arguments(&self) -> Result<String, Malformed> {
        self.arguments.map(read::text).transpose().map(Option::unwrap_or_default)
    }
}

/// What is said: a text, or chunks of several kinds, of which the texts are taken.
struct Content<'a>(Cow<'a, str>);

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or chunks")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Content<'de>, E> {
        Ok(Content(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content<'de>, E> {
        Ok(Content(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut chunks: A) -> Result<Content<'de>, A::Error> {
        let mut texts = String::new();
        while let Some(chunk) = chunks.next_element::<Chunk<'de>>()? {
            if chunk.kind.is_none_or(|kind| matches!(kind.as_ref(), "text" | "output_text")) {
                let text = chunk.text.map(read::text).transpose();
                let text = text.map_err(|_| serde::de::Error::custom("a chunk's text is no text"))?;
                texts.push_str(&text.unwrap_or_default());
            }
        }
        Ok(Content(Cow::Owned(texts)))
    }
}

/// Reads a whole answer.
pub(super) fn whole(body: &[u8]) -> Result<Answer, Broken> {
    let completion: Completion<'_> = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let usage = Usage::read(completion.usage);
    let Some(choice) = completion.choices.and_then(|First(choice)| choice) else {
        // Some gateways fail with a status that is a success.
        return Err(match completion.error {
            Some(error) => Broken::Refused(refusal_midway(error)),
            None => Malformed("the answer has no choices".to_owned()).into(),
        });
    };
    let message = choice.message.ok_or_else(|| Malformed("the answer has no message".to_owned()))?;
    let mut state = State::default();
    state.texts(&message, &mut Vec::new());
    for (call, number) in message.tool_calls.map(|Few(calls)| calls).unwrap_or_default().iter().zip(0..) {
        let function = call.function.as_ref().ok_or_else(nameless)?;
        let (id, name) = (or_empty(&call.id), or_empty(&function.name));
        state.assembly.tool_call(number, id, name, &function.arguments()?)?;
        state.asked |= named(state.assembly.close(number))?.is_some();
    }
    let reason = choice.finish_reason.as_deref().map_or(FinishReason::Other, finish_reason);
    Ok(state.answer(reason, usage))
}

fn or_empty<'a>(text: &'a Option<Cow<'_, str>>) -> &'a str {
    text.as_deref().unwrap_or_default()
}

fn nameless() -> Malformed {
    Malformed("the answer asks for a tool and does not name it".to_owned())
}

fn named(call: Option<ToolCall>) -> Result<Option<ToolCall>, Malformed> {
    if call.as_ref().is_some_and(|call| call.name.is_empty()) { Err(nameless()) } else { Ok(call) }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

/// What is common to whole answers and those in events.
#[derive(Default)]
struct State {
    assembly: Assembly,
    /// The model refused.
    refused: bool,
    /// It asks for a tool.
    asked: bool,
}

impl State {
    fn texts(&mut self, message: &Message<'_>, pieces: &mut Vec<Piece>) {
        let content = message.content.as_ref().map_or("", |Content(text)| text);
        let refusal = or_empty(&message.refusal);
        self.refused |= !refusal.is_empty();
        for text in [content, refusal] {
            if !text.is_empty() {
                self.assembly.text(text);
                pieces.push(Piece::Text(text.to_owned()));
            }
        }
    }

    fn answer(self, reason: FinishReason, usage: Usage) -> Answer {
        let reason = match reason {
            _ if self.refused => FinishReason::ContentFilter,
            // Not all servers have a word of their own for it.
            FinishReason::Stop | FinishReason::Other if self.asked => FinishReason::ToolCalls,
            reason => reason,
        };
        self.assembly.answer(reason, Tokens { input: usage.prompt_tokens.0, output: usage.completion_tokens.0 })
    }
}

/// Reads the events of one answer.
#[derive(Default)]
pub(super) struct Events {
    state: State,
    /// The tool call that is being written: the server's number for it, ours, and its id. There is one at a time.
    call: Option<(u64, u64, String)>,
    /// Calls so far. Our numbers, since servers are known to give one number to all.
    calls: u64,
    reason: Option<FinishReason>,
    usage: Usage,
    done: bool,
}

impl Events {
    fn call(&mut self, call: &Call<'_>, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        let index = call.index.unwrap_or(0);
        let nothing = Function::default();
        let function = call.function.as_ref().unwrap_or(&nothing);
        let (id, name) = (or_empty(&call.id), or_empty(&function.name));
        let goes_on = self.call.as_ref().is_some_and(|(open, _, known)| {
            // Some servers do not number calls: another name and id are another call.
            let another = !name.is_empty() && !id.is_empty() && !known.is_empty() && id != known;
            *open == index && !another
        });
        if !goes_on {
            self.close(pieces)?;
            self.call = Some((index, self.calls, id.to_owned()));
            self.calls += 1;
        }
        if let Some((_, number, _)) = &self.call {
            self.state.assembly.tool_call(*number, id, name, &function.arguments()?)?;
        }
        Ok(())
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        let Some((_, number, _)) = self.call.take() else { return Ok(()) };
        if let Some(call) = named(self.state.assembly.close(number))? {
            self.state.asked = true;
            pieces.push(Piece::ToolCall(call));
        }
        Ok(())
    }
}

impl Decoder for Events {
    fn event(&mut self, _name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Broken> {
        let data = data.trim_ascii();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(self.close(pieces)?);
        }
        let completion: Completion<'_> = serde_json::from_slice(data).map_err(|error| Malformed::json(&error))?;
        if let Some(error) = completion.error {
            return Err(Broken::Refused(refusal_midway(error)));
        }
        // The last numbers count. They come in an event of their own, or with the end, or with every piece.
        let usage = Usage::read(completion.usage);
        for (known, said) in [
            (&mut self.usage.prompt_tokens, usage.prompt_tokens),
            (&mut self.usage.completion_tokens, usage.completion_tokens),
        ] {
            *known = Count(said.0.or(known.0));
        }
        let Some(choice) = completion.choices.and_then(|First(choice)| choice) else { return Ok(()) };
        if let Some(message) = choice.delta.or(choice.message) {
            self.state.texts(&message, pieces);
            for call in message.tool_calls.iter().flat_map(|Few(calls)| calls) {
                self.call(call, pieces)?;
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.close(pieces)?;
            self.reason = Some(finish_reason(&reason));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.done
    }

    fn finish(mut self: Box<Self>) -> Result<Answer, Malformed> {
        if self.reason.is_none() && !self.done {
            return Err(Malformed("the answer broke off".to_owned()));
        }
        self.close(&mut Vec::new())?;
        Ok(self.state.answer(self.reason.unwrap_or(FinishReason::Other), self.usage))
    }
}
