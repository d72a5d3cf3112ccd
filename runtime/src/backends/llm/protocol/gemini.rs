//! Google's Gemini, as `generateContent`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::shape::{self, Arguments, Base64, First, Rows, Said};
use super::{
    Answer, Ask, Assembly, Broken, Count, Decoder, Framing, Malformed, Outgoing, Piece, Protocol, Refusal, Tokens,
    Unsupported, Vectors, Why,
};
use crate::host_api::llm::{Blob, FinishReason, Message, Part, Role, ToolCall, ToolResult};

/// Most texts that one request for vectors takes.
const TEXTS_MAX: usize = 100;

/// Newer models refuse a turn whose first call of a tool has not the signature that came with it. A call that went through
/// the guest has none; this one is Google's own word for that.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Gemini's protocol.
pub(in super::super) struct Gemini;

impl Protocol for Gemini {
    fn encode(&self, ask: &Ask<'_>) -> Result<Outgoing, Unsupported> {
        let request = ask.request;
        let mut conversation = Conversation::default();
        for message in &request.messages {
            conversation.add(message)?;
        }
        let Conversation { mut system, contents, .. } = conversation;
        if contents.is_empty() {
            return Err(Unsupported("gemini needs a message that is not of the system, and not empty".to_owned()));
        }

        let schema = request
            .response_schema
            .as_deref()
            .map(|schema| shape::schema("the response schema", schema))
            .transpose()?;
        // Most models refuse a schema beside tools. Words they all take, and the answer is checked anyway.
        let words = schema.filter(|_| !request.tools.is_empty()).map(shape::schema_in_words);
        let schema = schema.filter(|_| request.tools.is_empty());
        system.extend(words.as_deref().map(PartOut::text));

        let declarations = request.tools.iter().map(|tool| {
            let parameters_json_schema = shape::schema("the parameters of a tool", &tool.parameters_schema)?;
            let description = Some(tool.description.as_str()).filter(|description| !description.is_empty());
            Ok(Declaration { name: &tool.name, description, parameters_json_schema })
        });
        let declarations = declarations.collect::<Result<Vec<_>, Unsupported>>()?;

        let body = shape::body(&Body {
            system_instruction: (!system.is_empty()).then_some(System { parts: system }),
            contents,
            tools: (!declarations.is_empty()).then_some([Tools { function_declarations: declarations }]),
            generation_config: Config {
                max_output_tokens: request.max_tokens,
                temperature: request.temperature,
                stop_sequences: &request.stop,
                response_mime_type: schema.map(|_| "application/json"),
                response_json_schema: schema,
            },
        })?;
        let (method, framing) = match ask.stream {
            true => ("streamGenerateContent?alt=sse", Framing::ServerSentEvents),
            false => ("generateContent", Framing::Whole),
        };
        Ok(Outgoing { path: path(ask.model, method), headers: &[], body, framing })
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Malformed> {
        let mut reading = Reading::default();
        reading.chunk(read(body)?, &mut Vec::new())?;
        if reading.has_candidate {
            reading.finish_reason.get_or_insert(FinishReason::Other);
        }
        reading.answer("the answer has no candidate")
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(Reading::default())
    }

    fn encode_embedding(&self, model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
        let name = format!("models/{}", bare(model));
        let outgoing = inputs.chunks(TEXTS_MAX).map(|texts| {
            let requests = texts
                .iter()
                .map(|text| EmbedOut { model: &name, content: System { parts: vec![PartOut::text(text)] } });
            let body = shape::body(&BatchOut { requests: requests.collect() })?;
            Ok(Outgoing { path: path(model, "batchEmbedContents"), headers: &[], body, framing: Framing::Whole })
        });
        outgoing.collect()
    }

    fn decode_embedding(&self, body: &[u8]) -> Result<Vectors, Malformed> {
        let batch: BatchIn = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
        let rows = batch.embeddings.0.into_iter().map(|row| row.values).collect();
        shape::vectors(rows, batch.usage_metadata.input().0)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        // Of requests for a stream it comes as a list.
        let failure = match body.trim_ascii_start().first() {
            Some(b'[') => serde_json::from_slice::<First<Failed>>(body).ok().and_then(|list| list.0),
            _ => serde_json::from_slice(body).ok(),
        };
        failure.and_then(|failed: Failed| failed.error).unwrap_or_default().refusal(Some(status))
    }
}

/// A model's name without the collection that Google's own lists put before it.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn path(model: &str, method: &str) -> String {
    format!("/models/{}:{method}", shape::segment(bare(model)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<System<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<'a>; 1]>,
    generation_config: Config<'a>,
}

#[derive(Serialize)]
struct System<'a> {
    parts: Vec<PartOut<'a>>,
}

#[derive(Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: Vec<PartOut<'a>>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum PartOut<'a> {
    Text {
        text: &'a str,
    },
    Data {
        inline_data: Data<'a>,
    },
    Call {
        function_call: CallOut<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'static str>,
    },
    Result {
        function_response: ResultOut<'a>,
    },
}

impl<'a> PartOut<'a> {
    fn text(text: &'a str) -> Self {
        PartOut::Text { text }
    }

    fn data(blob: &'a Blob) -> Self {
        PartOut::Data { inline_data: Data { mime_type: &blob.media_type, data: Base64(&blob.data) } }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    mime_type: &'a str,
    data: Base64<'a>,
}

/// A result belongs to a call by its name, and to one of two calls of one tool by its id. We give the guest's id to both,
/// wherever it comes from: to Gemini it only matters that they are the same.
#[derive(Serialize)]
struct CallOut<'a> {
    id: &'a str,
    name: &'a str,
    args: Arguments<'a>,
}

#[derive(Serialize)]
struct ResultOut<'a> {
    id: &'a str,
    name: &'a str,
    response: ResponseOut<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ResponseOut<'a> {
    Result(&'a str),
    Error(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters_json_schema: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct BatchOut<'a> {
    requests: Vec<EmbedOut<'a>>,
}

#[derive(Serialize)]
struct EmbedOut<'a> {
    model: &'a str,
    content: System<'a>,
}

/// The messages so far, as Gemini has them.
#[derive(Default)]
struct Conversation<'a> {
    system: Vec<PartOut<'a>>,
    contents: Vec<Content<'a>>,
    /// The tools' names by the ids of their calls. Ids that we made up come again; the last call is meant.
    calls: HashMap<&'a str, &'a str>,
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: &'a Message) -> Result<(), Unsupported> {
        let role = match message.role {
            Role::System => "",
            Role::User | Role::Tool => "user",
            Role::Assistant => "model",
        };
        for part in &message.parts {
            let part = match part {
                // It has no text to Gemini, which refuses it.
                Part::Text(text) if text.is_empty() => continue,
                Part::Text(text) => PartOut::text(text),
                _ if message.role == Role::System => {
                    return Err(Unsupported("gemini takes only text from the system".to_owned()));
                }
                Part::Image(blob) | Part::Document(blob) => PartOut::data(blob),
                Part::ImageUrl(_) => {
                    return Err(Unsupported("gemini takes images as bytes, not by address".to_owned()));
                }
                Part::ToolCall(call) => self.call(call, role),
                Part::ToolResult(result) => self.result(result),
            };
            if message.role == Role::System {
                self.system.push(part);
                continue;
            }
            match self.contents.last_mut() {
                Some(content) if content.role == role => content.parts.push(part),
                _ => self.contents.push(Content { role, parts: vec![part] }),
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &'a ToolCall, role: &'static str) -> PartOut<'a> {
        self.calls.insert(&call.id, &call.name);
        let turn = self.contents.last().filter(|content| content.role == role);
        let is_first =
            !turn.is_some_and(|content| content.parts.iter().any(|part| matches!(part, PartOut::Call { .. })));
        PartOut::Call {
            function_call: CallOut { id: &call.id, name: &call.name, args: Arguments(&call.arguments) },
            thought_signature: is_first.then_some(NO_SIGNATURE),
        }
    }

    fn result(&self, result: &'a ToolResult) -> PartOut<'a> {
        let id = result.call_id.as_str();
        let name = self.calls.get(id).copied().unwrap_or(id);
        let response = match result.is_error {
            true => ResponseOut::Error(&result.content),
            false => ResponseOut::Result(&result.content),
        };
        PartOut::Result { function_response: ResultOut { id, name, response } }
    }
}

/// An answer, or a piece of one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Chunk {
    candidates: First<Candidate>,
    prompt_feedback: Option<Feedback>,
    #[serde(deserialize_with = "shape::lenient")]
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
    #[serde(default, deserialize_with = "shape::said::<_, PartIn>")]
    parts: Vec<Said>,
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

impl From<PartIn> for Option<Said> {
    fn from(part: PartIn) -> Self {
        if let Some(CallIn { id, name, args }) = part.function_call {
            let arguments = args.map(|args| args.get().to_owned()).unwrap_or_default();
            return Some(Said::Call { id: id.unwrap_or_default(), name, arguments });
        }
        let is_thought = part.thought == Some(true);
        part.text.filter(|text| !is_thought && !text.is_empty()).map(Said::Text)
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

fn read(data: &[u8]) -> Result<Chunk, Malformed> {
    serde_json::from_slice(data).map_err(|error| Malformed::json(&error))
}

/// An answer as far as it was read.
#[derive(Default)]
struct Reading {
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
                Said::Text(text) => {
                    self.assembly.text(&text);
                    pieces.push(Piece::Text(text));
                }
                Said::Call { name, .. } if name.is_empty() => {
                    return Err(Malformed("the answer asks for a tool without a name".to_owned()));
                }
                Said::Call { id, name, arguments } => {
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
        let mut chunk = read(data)?;
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
    #[serde(default, deserialize_with = "shape::lenient")]
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
                status.or(code).map_or(Why::Server, Why::of_status)
            }
        };
        Refusal { why, message: shape::clipped(self.message) }
    }
}

#[cfg(test)]
mod tests;
