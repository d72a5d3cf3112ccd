//! Answers of `Converse`, whole and in events, and refusals.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::super::read::{self, Item};
use super::super::said;
use super::super::{Answer, Assembly, Broken, Count, Decoder, Malformed, Piece, Refusal, Tokens, Why};
use super::ANSWER_TOOL;
use crate::host_api::llm::FinishReason;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    output: Output,
    #[serde(default)]
    stop_reason: String,
    #[serde(default, deserialize_with = "read::lenient")]
    usage: Usage,
}

#[derive(Deserialize)]
struct Output {
    message: MessageIn,
}

#[derive(Deserialize)]
struct MessageIn {
    #[serde(default, deserialize_with = "read::items::<_, Block>")]
    content: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    #[serde(default)]
    tool_use_id: String,
    #[serde(default)]
    name: String,
    /// Not there where a call only begins.
    input: Option<Box<RawValue>>,
}

impl From<Block> for Option<Item> {
    fn from(block: Block) -> Self {
        match block.tool_use {
            Some(ToolUse { tool_use_id: id, name, input }) => {
                let arguments = input.map(|input| input.get().to_owned()).unwrap_or_default();
                Some(Item::Call { id, name, arguments })
            }
            None => block.text.filter(|text| !text.is_empty()).map(Item::Text),
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    /// Without what the cache has to do with.
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_write_input_tokens: Count,
    output_tokens: Count,
}

impl Usage {
    fn tokens(self) -> Tokens {
        let input = self.input_tokens.plus(self.cache_read_input_tokens).plus(self.cache_write_input_tokens);
        Tokens { input: input.0, output: self.output_tokens.0 }
    }
}

fn read<T: DeserializeOwned>(data: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(data).map_err(|error| Malformed::json(&error))
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, Malformed> {
    let answer: Whole = read(body)?;
    let mut assembly = Assembly::default();
    let mut calls = 0;
    for said in answer.output.message.content {
        match said {
            Item::Text(text) => assembly.text(&text),
            Item::Call { name, arguments, .. } if name == ANSWER_TOOL => assembly.text(&arguments),
            Item::Call { name, .. } if name.is_empty() => return Err(nameless()),
            Item::Call { id, name, arguments } => {
                assembly.tool_call(calls, &id, &name, &arguments)?;
                // At once, so that text after it stays after it.
                assembly.close(calls);
                calls += 1;
            }
        }
    }
    Ok(assembly.answer(finish_reason(&answer.stop_reason, calls > 0), answer.usage.tokens()))
}

fn nameless() -> Malformed {
    Malformed("the answer asks for a tool without a name".to_owned())
}

fn finish_reason(stop_reason: &str, has_calls: bool) -> FinishReason {
    match stop_reason {
        // The tool was the answer.
        "tool_use" if !has_calls => FinishReason::Stop,
        "tool_use" => FinishReason::ToolCalls,
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    #[serde(default)]
    content_block_index: u64,
    start: Option<Start>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    #[serde(default)]
    content_block_index: u64,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<InputDelta>,
}

#[derive(Deserialize)]
struct InputDelta {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    #[serde(default)]
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    #[serde(default)]
    stop_reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "read::lenient")]
    usage: Usage,
}

/// An answer as far as it was read.
#[derive(Default)]
pub(super) struct Reading {
    assembly: Assembly,
    /// The block whose tool is the answer, and whether something came of it.
    answering: Option<(u64, bool)>,
    has_calls: bool,
    stop_reason: Option<String>,
    tokens: Tokens,
}

impl Reading {
    fn text(&mut self, text: String, pieces: &mut Vec<Piece>) {
        if !text.is_empty() {
            self.assembly.text(&text);
            pieces.push(Piece::Text(text));
        }
    }

    fn start(&mut self, event: BlockStart) -> Result<(), Malformed> {
        let Some(tool) = event.start.and_then(|start| start.tool_use) else { return Ok(()) };
        if tool.name.is_empty() {
            return Err(nameless());
        }
        if tool.name == ANSWER_TOOL {
            self.answering = Some((event.content_block_index, false));
            return Ok(());
        }
        self.has_calls = true;
        self.assembly.tool_call(event.content_block_index, &tool.tool_use_id, &tool.name, "")
    }

    fn delta(&mut self, event: BlockDelta, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        let Some(delta) = event.delta else { return Ok(()) };
        if let Some(text) = delta.text {
            self.text(text, pieces);
        }
        let Some(InputDelta { input }) = delta.tool_use else { return Ok(()) };
        match &mut self.answering {
            Some((block, came)) if *block == event.content_block_index => {
                *came |= !input.is_empty();
                self.text(input, pieces);
                Ok(())
            }
            _ => self.assembly.tool_call(event.content_block_index, "", "", &input),
        }
    }

    fn stop(&mut self, event: BlockStop, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        if let Some((_, came)) = self.answering.take_if(|(block, _)| *block == event.content_block_index) {
            if !came {
                self.text("{}".to_owned(), pieces);
            }
            return Ok(());
        }
        match self.assembly.close(event.content_block_index) {
            Some(call) if call.name.is_empty() => Err(nameless()),
            call => {
                pieces.extend(call.map(Piece::ToolCall));
                Ok(())
            }
        }
    }
}

impl Decoder for Reading {
    fn event(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Broken> {
        match name {
            "contentBlockStart" => self.start(read(data)?)?,
            "contentBlockDelta" => self.delta(read(data)?, pieces)?,
            "contentBlockStop" => self.stop(read(data)?, pieces)?,
            "messageStop" => self.stop_reason = Some(read::<MessageStop>(data)?.stop_reason),
            "metadata" => self.tokens = read::<Metadata>(data)?.usage.tokens(),
            _ if name.ends_with("Exception") => return Err(Broken::Refused(exception(name, data))),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Answer, Malformed> {
        let Some(stop_reason) = self.stop_reason.take() else {
            return Err(Malformed("the answer broke off".to_owned()));
        };
        if self.assembly.close_all().iter().any(|call| call.name.is_empty()) {
            return Err(nameless());
        }
        Ok(self.assembly.answer(finish_reason(&stop_reason, self.has_calls), self.tokens))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failed {
    #[serde(alias = "Message")]
    message: String,
}

fn message(body: &[u8]) -> String {
    serde_json::from_slice::<Failed>(body).unwrap_or_default().message
}

/// Models say with a status of 400, and each in its own words, what others have statuses for.
fn invalid(said: &str) -> Why {
    let said = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    if says(&[
        "too long",
        "too many tokens",
        "too many input tokens",
        "maximum context",
        "context length",
        "context window",
    ]) {
        Why::ContextLength
    } else if says(&["service quota", "throttl"]) {
        Why::RateLimited
    } else if says(&["model identifier is invalid", "on-demand throughput"]) {
        Why::NotFound
    } else if says(&["security token"]) {
        Why::Key
    } else {
        Why::Request
    }
}

pub(super) fn refusal(status: u16, body: &[u8]) -> Refusal {
    let message = message(body);
    let why = match status {
        400 | 413 | 422 => invalid(&message),
        // The model did not answer in time, was not ready, or failed.
        424 => Why::Server,
        _ => Why::of_status(status),
    };
    Refusal { why, message: said::clipped(message) }
}

fn exception(name: &str, data: &[u8]) -> Refusal {
    let message = message(data);
    let why = match name {
        "throttlingException" | "ThrottlingException" | "serviceQuotaExceededException" => Why::RateLimited,
        "validationException" | "ValidationException" => invalid(&message),
        "accessDeniedException" | "AccessDeniedException" => Why::Key,
        "resourceNotFoundException" | "ResourceNotFoundException" => Why::NotFound,
        // `internalServerException`, `modelStreamErrorException`, `serviceUnavailableException` and what is alike.
        _ => Why::Server,
    };
    Refusal { why, message: said::clipped(message) }
}
