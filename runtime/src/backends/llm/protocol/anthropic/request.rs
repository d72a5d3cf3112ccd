//! A request in Anthropic's words.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::write::{self, Arguments};
use super::super::{Ask, Unsupported, schema};
use crate::host_api::llm::{Blob, Message, Part, Request, Role};

/// The longest answer where the guest does not say: Anthropic wants to be told, and all of its models can write this.
const MAX_TOKENS: u32 = 4096;

/// The last generation that took a temperature: later ones refuse a request that has one.
const LAST_WITH_TEMPERATURE: (u32, u32) = (4, 6);

/// The first generation that can be held to a schema: earlier ones refuse a request that asks for it.
const FIRST_WITH_SCHEMA: (u32, u32) = (4, 5);

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Speaker {
    User,
    Assistant,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: Speaker,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Arguments<'a>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: Cow<'a, str> },
    Url { url: &'a str },
    Text { media_type: &'static str, data: &'a str },
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: &'a RawValue,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

/// The body of a request.
pub(super) fn body(ask: &Ask<'_>) -> Result<Vec<u8>, Unsupported> {
    let request = ask.request;
    let (mut system, mut messages) = (Vec::new(), Vec::new());
    for message in &request.messages {
        match message.role {
            Role::System => instructions(message, &mut system)?,
            Role::User | Role::Tool => say(message, Speaker::User, &mut messages)?,
            Role::Assistant => say(message, Speaker::Assistant, &mut messages)?,
        }
    }
    if messages.is_empty() {
        return Err(Unsupported("Anthropic wants a message of the user beside the system's".to_owned()));
    }
    for turn in &mut messages {
        // Results come first, right after the message that asked for them.
        turn.content.sort_by_key(|block| !matches!(block, Block::ToolResult { .. }));
    }
    let generation = generation(ask.model);
    let output_config = match &request.response_schema {
        Some(schema) => answer_schema(schema, generation, &mut system)?,
        None => None,
    };
    // Their range ends at 1, where ours ends at 2.
    let temperature = request.temperature.map(|degrees| degrees.min(1.0));
    let body = Body {
        model: ask.model,
        max_tokens: request.max_tokens.unwrap_or(MAX_TOKENS),
        system,
        messages,
        temperature: temperature.filter(|_| generation.is_none_or(|generation| generation <= LAST_WITH_TEMPERATURE)),
        stop_sequences: &request.stop,
        tools: tools(request)?,
        output_config,
        stream: ask.stream.then_some(true),
    };
    write::body(&body)
}

/// The generation in the name of a model: 4.5 in `claude-sonnet-4-5-20250929`, 3.5 in `claude-3-5-haiku-latest`, 4.0 in
/// `claude-opus-4-20250514`. None if the name is not one of Anthropic's.
fn generation(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude-")?;
    let mut numbers =
        name.split(['-', '.', '@', ':']).skip_while(|word| !is_number(word)).take_while(|word| is_number(word));
    let mut number = || numbers.next().and_then(|word| word.parse().ok());
    Some((number()?, number().unwrap_or(0)))
}

/// A date is not one.
fn is_number(word: &str) -> bool {
    (1..=2).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A schema is enforced where model and schema allow for it, and is an instruction elsewhere; every answer is checked
/// later. The old way, a tool for the answer that the model is made to call, will not do: the newest models refuse a
/// request that makes them call one, and an answer that is no object would have to be wrapped in one.
fn answer_schema<'a>(
    text: &'a str,
    generation: Option<(u32, u32)>,
    system: &mut Vec<Block<'a>>,
) -> Result<Option<OutputConfig<'a>>, Unsupported> {
    let schema = write::schema("the response schema", text)?;
    if generation.is_some_and(|generation| generation >= FIRST_WITH_SCHEMA) && schema::is_enforceable(text) {
        return Ok(Some(OutputConfig { format: Format { kind: "json_schema", schema } }));
    }
    let instruction = "When you answer with text, write nothing but JSON, without a word or a code fence around it. It \
                       must match this JSON schema:";
    system.push(Block::Text { text: format!("{instruction}\n{text}").into() });
    Ok(None)
}

fn tools(request: &Request) -> Result<Vec<Tool<'_>>, Unsupported> {
    request
        .tools
        .iter()
        .map(|tool| {
            let input_schema = write::schema("the parameters of a tool", &tool.parameters_schema)?;
            Ok(Tool { name: &tool.name, description: &tool.description, input_schema })
        })
        .collect()
}

fn instructions<'a>(message: &'a Message, system: &mut Vec<Block<'a>>) -> Result<(), Unsupported> {
    for part in &message.parts {
        let Part::Text(text) = part else {
            return Err(Unsupported("a system message can hold nothing but text in Anthropic's protocol".to_owned()));
        };
        system.extend(text_block(text));
    }
    Ok(())
}

/// Anthropic refuses a text that is empty.
fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.is_empty()).then(|| Block::Text { text: text.into() })
}

/// Speakers take turns: what one says in several messages is one turn, and who says nothing has none.
fn say<'a>(message: &'a Message, role: Speaker, turns: &mut Vec<Turn<'a>>) -> Result<(), Unsupported> {
    for part in &message.parts {
        let Some(block) = block(part, role)? else { continue };
        match turns.last_mut() {
            Some(turn) if turn.role == role => turn.content.push(block),
            _ => turns.push(Turn { role, content: vec![block] }),
        }
    }
    Ok(())
}

fn block(part: &Part, role: Speaker) -> Result<Option<Block<'_>>, Unsupported> {
    Ok(Some(match (part, role) {
        (Part::Text(text), _) => return Ok(text_block(text)),
        (Part::Image(image), Speaker::User) => Block::Image { source: base64(image) },
        (Part::ImageUrl(url), Speaker::User) => Block::Image { source: address(url) },
        (Part::Document(document), Speaker::User) => Block::Document { source: paper(document)? },
        (Part::ToolResult(result), Speaker::User) => Block::ToolResult {
            tool_use_id: tool_id(&result.call_id),
            content: &result.content,
            is_error: result.is_error,
        },
        (Part::ToolCall(call), Speaker::Assistant) => {
            Block::ToolUse { id: tool_id(&call.id), name: &call.name, input: Arguments(&call.arguments) }
        }
        (Part::ToolCall(_), Speaker::User) => {
            return Err(Unsupported("only the assistant can ask for tools".to_owned()));
        }
        (Part::Image(_) | Part::ImageUrl(_) | Part::Document(_) | Part::ToolResult(_), Speaker::Assistant) => {
            let what = "a message of the assistant can hold only text and tool calls in Anthropic's protocol";
            return Err(Unsupported(what.to_owned()));
        }
    }))
}

fn base64(blob: &Blob) -> Source<'_> {
    Source::Base64 { media_type: &blob.media_type, data: STANDARD.encode(&blob.data).into() }
}

/// Addresses are fetched, so that one which holds the image itself is taken apart here.
fn address(url: &str) -> Source<'_> {
    match url.strip_prefix("data:").and_then(|data| data.split_once(";base64,")) {
        Some((media_type, data)) => Source::Base64 { media_type, data: data.into() },
        None => Source::Url { url },
    }
}

fn paper(document: &Blob) -> Result<Source<'_>, Unsupported> {
    let kind = write::essence(&document.media_type);
    if kind == "application/pdf" {
        return Ok(Source::Base64 { media_type: "application/pdf", data: STANDARD.encode(&document.data).into() });
    }
    match std::str::from_utf8(&document.data) {
        // Every kind of text is plain to them.
        Ok(data) if kind.starts_with("text/") => Ok(Source::Text { media_type: "text/plain", data }),
        _ => Err(Unsupported("Anthropic reads documents that are PDF, or text in UTF-8".to_owned())),
    }
}

/// Ids of other providers may have characters that Anthropic refuses.
fn tool_id(id: &str) -> Cow<'_, str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(is_allowed) {
        return id.into();
    }
    format!("call_{}", id.replace(|c| !is_allowed(c), "_")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_tell_their_generation() {
        for (model, expected) in [
            ("claude-3-haiku-20240307", Some((3, 0))),
            ("claude-3-5-haiku-latest", Some((3, 5))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-opus-4-1@20250805", Some((4, 1))),
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("anthropic/claude-opus-4.8", Some((4, 8))),
            ("claude-opus-5", Some((5, 0))),
            ("claude-haiku-99999999999-x", None),
            ("claude-instant", None),
            ("my-model-4-5", None),
            ("", None),
        ] {
            assert_eq!(generation(model), expected, "{model}");
        }
    }
}
