//! An answer in Anthropic's words.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::read::Few;
use super::super::{Answer, Assembly, Broken, Count, Decoder, Malformed, Piece, Tokens};
use super::refusal_midway;
use crate::host_api::llm::{FinishReason, ToolCall};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Few<Block<'a>>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// A block of any kind. What is not of a kind that is read here may have other things under these names.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<Begun<'a>>,
    #[serde(borrow)]
    content_block: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Begun<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

/// What was counted. Tokens that a cache wrote or read are not among the `input_tokens`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    output_tokens: Count,
}

impl Usage {
    /// Reads it. An answer is not thrown away because its bill has another form.
    fn read(usage: Option<&RawValue>) -> Self {
        usage.and_then(|usage| serde_json::from_str(usage.get()).ok()).unwrap_or_default()
    }

    /// Later numbers are those of all that was written so far; what is not said again stays.
    fn go_on(&mut self, later: Usage) {
        for (known, said) in [
            (&mut self.input_tokens, later.input_tokens),
            (&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens),
            (&mut self.cache_read_input_tokens, later.cache_read_input_tokens),
            (&mut self.output_tokens, later.output_tokens),
        ] {
            *known = Count(said.0.or(known.0));
        }
    }

    fn tokens(self) -> Tokens {
        let input = self.input_tokens.plus(self.cache_creation_input_tokens).plus(self.cache_read_input_tokens);
        Tokens { input: input.0, output: self.output_tokens.0 }
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

fn text(json: Option<&RawValue>) -> Result<String, Malformed> {
    let text = json.map(|json| serde_json::from_str(json.get())).transpose();
    text.map(Option::unwrap_or_default).map_err(|error| Malformed::json(&error))
}

fn named(call: Option<ToolCall>) -> Result<Option<ToolCall>, Malformed> {
    match call {
        Some(call) if call.name.is_empty() => {
            Err(Malformed("the answer asks for a tool and does not name it".to_owned()))
        }
        call => Ok(call),
    }
}

/// Reads a whole answer.
pub(super) fn whole(body: &[u8]) -> Result<Answer, Malformed> {
    let message: Message<'_> = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let Few(blocks) = message.content.ok_or_else(|| Malformed("the answer has no content".to_owned()))?;
    let mut assembly = Assembly::default();
    for (block, number) in blocks.iter().zip(0..) {
        match block.kind.as_ref() {
            "text" => {
                let text = text(block.text)?;
                if !text.is_empty() {
                    assembly.text(&text);
                }
            }
            "tool_use" => {
                let input = block.input.map_or("", RawValue::get);
                assembly.tool_call(number, &text(block.id)?, &text(block.name)?, input)?;
                named(assembly.close(number))?;
            }
            // What it thought, and what we did not ask for.
            _ => {}
        }
    }
    let reason = message.stop_reason.as_deref().map_or(FinishReason::Other, finish_reason);
    Ok(assembly.answer(reason, Usage::read(message.usage).tokens()))
}

/// Reads the events of one answer.
#[derive(Default)]
pub(super) struct Events {
    assembly: Assembly,
    /// The tool call that is being written: its number, and its input if that was said when it began.
    call: Option<(u64, String)>,
    reason: Option<FinishReason>,
    usage: Usage,
    done: bool,
}

impl Events {
    fn text(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        if !text.is_empty() {
            self.assembly.text(text);
            pieces.push(Piece::Text(text.to_owned()));
        }
    }

    fn begin(&mut self, index: u64, block: &Block<'_>, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        self.close(pieces)?;
        match block.kind.as_ref() {
            "text" => self.text(&text(block.text)?, pieces),
            "tool_use" => {
                self.assembly.tool_call(index, &text(block.id)?, &text(block.name)?, "")?;
                self.call = Some((index, block.input.map_or("", RawValue::get).to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn go_on(&mut self, index: u64, delta: &Delta<'_>, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        match delta.kind.as_deref() {
            Some("text_delta") => self.text(delta.text.as_deref().unwrap_or_default(), pieces),
            Some("input_json_delta") => {
                let json = delta.partial_json.as_deref().unwrap_or_default();
                // Inputs of tools that are not ours come like this, too.
                if let Some((open, begun)) = &mut self.call
                    && *open == index
                    && !json.is_empty()
                {
                    // An empty object, most often, where the input comes in pieces.
                    begun.clear();
                    self.assembly.tool_call(index, "", "", json)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        let Some((index, begun)) = self.call.take() else { return Ok(()) };
        self.assembly.tool_call(index, "", "", &begun)?;
        pieces.extend(named(self.assembly.close(index))?.map(Piece::ToolCall));
        Ok(())
    }
}

impl Decoder for Events {
    fn event(&mut self, _name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Broken> {
        if data.trim_ascii().is_empty() || self.done {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data).map_err(|error| Malformed::json(&error))?;
        let index = event.index.unwrap_or(0);
        self.usage.go_on(Usage::read(event.message.and_then(|begun| begun.usage).or(event.usage)));
        match (event.kind.as_ref(), &event.content_block, &event.delta) {
            ("content_block_start", Some(block), _) => self.begin(index, block, pieces)?,
            ("content_block_delta", _, Some(delta)) => self.go_on(index, delta, pieces)?,
            ("content_block_stop", ..) => self.close(pieces)?,
            ("message_delta", _, Some(Delta { stop_reason: Some(reason), .. })) => {
                self.reason = Some(finish_reason(reason));
            }
            ("message_stop", ..) => {
                self.close(pieces)?;
                self.done = true;
            }
            ("error", ..) => return Err(Broken::Refused(refusal_midway(event.error))),
            // Among them `ping`, and whatever they will think of.
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.done
    }

    fn finish(mut self: Box<Self>) -> Result<Answer, Malformed> {
        let Some(reason) = self.reason.or(self.done.then_some(FinishReason::Other)) else {
            return Err(Malformed("the answer broke off".to_owned()));
        };
        self.close(&mut Vec::new())?;
        Ok(self.assembly.answer(reason, self.usage.tokens()))
    }
}
