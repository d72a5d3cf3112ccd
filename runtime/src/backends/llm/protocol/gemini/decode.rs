//! Gemini's answers, whole and in events, and refusals.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::super::read::{self, First, Item, Rows};
use super::super::said;
use super::super::{Answer, Assembly, Broken, Count, Decoder, Malformed, Piece, Refusal, Tokens, Vectors, Why};
use crate::host_api::llm::FinishReason;

/// An answer, or a piece of one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Chunk {
    candidates: First<Candidate>,
    prompt_feedback: Option<Feedback>,
    #[serde(deserialize_with = "read::lenient")]
    usage_metadata: Usage,
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<ContentIn>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ContentIn {
    #[serde(default, deserialize_with = "read::items::<_, PartIn>")]
    parts: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartIn {
    text: Option<String>,
    /// The text is not part of the answer.
    thought: Option<bool>,
    function_call: Option<CallIn>,
}

#[derive(Deserialize)]
struct CallIn {
    id: Option<String>,
    #[serde(default)]
    name: String,
    args: Option<Box<RawValue>>,
}

impl From<PartIn> for Option<Item> {
    fn from(part: PartIn) -> Self {
        if let Some(CallIn { id, name, args }) = part.function_call {
            let arguments = args.map(|args| args.get().to_owned()).unwrap_or_default();
            return Some(Item::Call { id: id.unwrap_or_default(), name, arguments });
        }
        let is_thought = part.thought == Some(true);
        part.text.filter(|text| !is_thought && !text.is_empty()).map(Item::Text)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
}

impl Usage {
    fn input(self) -> Count {
        self.prompt_token_count.plus(self.tool_use_prompt_token_count)
    }

    fn output(self) -> Count {
        self.candidates_token_count.plus(self.thoughts_token_count)
    }
}

fn read<T: DeserializeOwned>(data: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(data).map_err(|error| Malformed::json(&error))
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, Malformed> {
    let mut reading = Reading::default();
    reading.chunk(read(body)?, &mut Vec::new())?;
    if reading.has_candidate {
        reading.finish_reason.get_or_insert(FinishReason::Other);
    }
    reading.answer("the answer has no candidate")
}

pub(super) fn vectors(body: &[u8]) -> Result<Vectors, Malformed> {
    let batch: BatchIn = read(body)?;
    let rows = batch.embeddings.0.into_iter().map(|row| row.values).collect();
    read::vectors(rows, batch.usage_metadata.input().0)
}

/// An answer as far as it was read.
#[derive(Default)]
pub(super) struct Reading {
    assembly: Assembly,
    calls: u64,
    has_candidate: bool,
    blocked: bool,
    finish_reason: Option<FinishReason>,
    tokens: Tokens,
}

impl Reading {
    fn chunk(&mut self, chunk: Chunk, pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
        // The counts of an event are those of all so far.
        self.tokens.input = chunk.usage_metadata.input().0.or(self.tokens.input);
        self.tokens.output = chunk.usage_metadata.output().0.or(self.tokens.output);
        self.blocked |= chunk.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        let Some(candidate) = chunk.candidates.0 else { return Ok(()) };
        self.has_candidate = true;
        for said in candidate.content.map(|content| content.parts).unwrap_or_default() {
            match said {
                Item::Text(text) => {
                    self.assembly.text(&text);
                    pieces.push(Piece::Text(text));
                }
                Item::Call { name, .. } if name.is_empty() => {
                    return Err(Malformed("the answer asks for a tool without a name".to_owned()));
                }
                Item::Call { id, name, arguments } => {
                    let number = self.calls;
                    self.calls += 1;
                    self.assembly.tool_call(number, &id, &name, &arguments)?;
                    pieces.extend(self.assembly.close(number).map(Piece::ToolCall));
                }
            }
        }
        if let Some(reason) = candidate.finish_reason {
            self.finish_reason = Some(match reason.as_str() {
                "STOP" => FinishReason::Stop,
                "MAX_TOKENS" => FinishReason::Length,
                "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
                    FinishReason::ContentFilter
                }
                _ => FinishReason::Other,
            });
        }
        Ok(())
    }

    fn answer(self, incomplete: &str) -> Result<Answer, Malformed> {
        let finish_reason = match self.finish_reason {
            Some(FinishReason::Stop) if self.calls > 0 => FinishReason::ToolCalls,
            Some(reason) => reason,
            None if self.blocked => FinishReason::ContentFilter,
            None => return Err(Malformed(incomplete.to_owned())),
        };
        Ok(self.assembly.answer(finish_reason, self.tokens))
    }
}

impl Decoder for Reading {
    fn event(&mut self, _: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Broken> {
        let mut chunk: Chunk = read(data)?;
        match chunk.error.take() {
            Some(failure) => Err(Broken::Refused(failure.refusal(None))),
            None => Ok(self.chunk(chunk, pieces)?),
        }
    }

    fn finish(self: Box<Self>) -> Result<Answer, Malformed> {
        self.answer("the answer broke off")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchIn {
    embeddings: Rows<Row>,
    #[serde(default, deserialize_with = "read::lenient")]
    usage_metadata: Usage,
}

#[derive(Deserialize)]
struct Row {
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Failed {
    error: Option<Failure>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    code: Count,
    message: String,
    status: String,
}

impl Failure {
    fn refusal(self, status: Option<u16>) -> Refusal {
        let said = self.message.to_ascii_lowercase();
        let why = match self.status.as_str() {
            "INVALID_ARGUMENT" if said.contains("token count") || said.contains("number of tokens allowed") => {
                Why::ContextLength
            }
            _ if said.contains("api key not valid") || said.contains("api key expired") => Why::Key,
            // `FAILED_PRECONDITION`: not from this country, or not without paying.
            "PERMISSION_DENIED" | "UNAUTHENTICATED" | "FAILED_PRECONDITION" => Why::Key,
            "RESOURCE_EXHAUSTED" => Why::RateLimited,
            "NOT_FOUND" => Why::NotFound,
            "UNAVAILABLE" | "INTERNAL" | "DEADLINE_EXCEEDED" | "ABORTED" | "CANCELLED" => Why::Server,
            _ => {
                let code = self.code.0.and_then(|code| u16::try_from(code).ok());
                // In the middle of an answer there is no status; that it began says that the request was right.
                let status = status.or(code);
                let of_gateway = status.and_then(|status| said::of_gateway(status, &self.message));
                of_gateway.unwrap_or_else(|| status.map_or(Why::Server, Why::of_status))
            }
        };
        Refusal { why, message: said::clipped(self.message) }
    }
}

pub(super) fn refusal(status: u16, body: &[u8]) -> Refusal {
    // Of requests for a stream it comes as a list.
    let failure = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice::<First<Failed>>(body).ok().and_then(|list| list.0),
        _ => serde_json::from_slice(body).ok(),
    };
    failure.and_then(|failed: Failed| failed.error).unwrap_or_default().refusal(Some(status))
}
