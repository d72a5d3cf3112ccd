//! A request in OpenAI's words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{Ask, Unsupported, schema, write};
use super::Flavour;
use crate::host_api::llm::{Blob, Message, Part, Request, Role, ToolResult};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Said<'a> {
    System {
        content: String,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Chunks(Vec<Chunk<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Chunk<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
    File { file: File },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct File {
    filename: String,
    file_data: String,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CallFunction<'a>,
}

#[derive(Serialize)]
struct CallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    strict: bool,
    schema: &'a RawValue,
}

/// What the names of OpenAI's models begin with that think before they answer.
const THINKING: [&str; 4] = ["o1", "o3", "o4", "gpt-5"];

/// The body of a request.
pub(super) fn body(ask: &Ask<'_>, flavour: &Flavour) -> Result<Vec<u8>, Unsupported> {
    let request = ask.request;
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        said(message, &mut messages)?;
    }
    // OpenAI's newer models refuse the old name, and many other servers do not know the new one.
    let (max_completion_tokens, max_tokens) = match flavour {
        Flavour::Compatible => (None, request.max_tokens),
        Flavour::OpenAi | Flavour::Azure { .. } => (request.max_tokens, None),
    };
    // These refuse any temperature, and a temperature is a wish.
    let is_openais = !matches!(flavour, Flavour::Compatible);
    let thinks = is_openais && THINKING.iter().any(|beginning| ask.model.starts_with(beginning));
    let body = Body {
        model: ask.model,
        messages,
        max_completion_tokens,
        max_tokens,
        temperature: request.temperature.filter(|_| !thinks),
        stop: &request.stop,
        tools: tools(request)?,
        response_format: response_format(request)?,
        stream: ask.stream.then_some(true),
        stream_options: ask.stream.then_some(StreamOptions { include_usage: true }),
    };
    write::body(&body)
}

fn tools(request: &Request) -> Result<Vec<Tool<'_>>, Unsupported> {
    request
        .tools
        .iter()
        .map(|tool| {
            let parameters = write::schema("the parameters of a tool", &tool.parameters_schema)?;
            let function = Function { name: &tool.name, description: &tool.description, parameters };
            Ok(Tool { kind: "function", function })
        })
        .collect()
}

fn response_format(request: &Request) -> Result<Option<ResponseFormat<'_>>, Unsupported> {
    let Some(text) = &request.response_schema else { return Ok(None) };
    let schema = write::schema("the response schema", text)?;
    // Strictly, the model cannot but follow the schema; but a request is refused if the schema has anything that is not
    // enforced. Every answer is checked later, so that it is left to the model where this is not sure.
    let json_schema = JsonSchema { name: "answer", strict: schema::is_enforceable(text), schema };
    Ok(Some(ResponseFormat { kind: "json_schema", json_schema }))
}

/// One of our messages may become several: each result of a tool is a message of its own.
fn said<'a>(message: &'a Message, messages: &mut Vec<Said<'a>>) -> Result<(), Unsupported> {
    match message.role {
        Role::System => messages.push(Said::System { content: texts(message, "a system message")? }),
        Role::Assistant => messages.push(assistant(message)?),
        // What comes with results is the user's: their messages have a text and nothing else.
        Role::User | Role::Tool => {
            let results = || message.parts.iter().filter_map(as_result);
            messages.extend(results().map(|result| Said::Tool {
                tool_call_id: &result.call_id,
                content: if result.is_error { format!("error: {}", result.content) } else { result.content.clone() },
            }));
            if results().count() < message.parts.len() || message.parts.is_empty() {
                messages.push(Said::User { content: content(message)? });
            }
        }
    }
    Ok(())
}

fn as_result(part: &Part) -> Option<&ToolResult> {
    match part {
        Part::ToolResult(result) => Some(result),
        _ => None,
    }
}

/// The texts as one: not all servers take several in these messages.
fn texts(message: &Message, what: &str) -> Result<String, Unsupported> {
    let texts = message.parts.iter().map(Part::as_text).collect::<Option<Vec<_>>>();
    let texts = texts.ok_or_else(|| Unsupported(format!("{what} can hold nothing but text in OpenAI's protocol")))?;
    Ok(texts.join("\n"))
}

fn assistant(message: &Message) -> Result<Said<'_>, Unsupported> {
    let (mut said, mut tool_calls) = (Vec::new(), Vec::new());
    for part in &message.parts {
        match part {
            Part::Text(text) => said.push(text.as_str()),
            Part::ToolCall(call) => {
                let function = CallFunction { name: &call.name, arguments: &call.arguments };
                tool_calls.push(Call { id: &call.id, kind: "function", function });
            }
            Part::Image(_) | Part::ImageUrl(_) | Part::Document(_) | Part::ToolResult(_) => {
                let what = "a message of the assistant can hold only text and tool calls in OpenAI's protocol";
                return Err(Unsupported(what.to_owned()));
            }
        }
    }
    let content = (!said.is_empty() || tool_calls.is_empty()).then(|| said.join("\n"));
    Ok(Said::Assistant { content, tool_calls })
}

fn content(message: &Message) -> Result<Content<'_>, Unsupported> {
    match message.parts.as_slice() {
        [] => return Ok(Content::Text("")),
        [Part::Text(text)] => return Ok(Content::Text(text)),
        _ => {}
    }
    let mut chunks = Vec::new();
    for part in &message.parts {
        chunks.push(match part {
            Part::Text(text) => Chunk::Text { text },
            Part::Image(image) => Chunk::ImageUrl { image_url: ImageUrl { url: data_url(image) } },
            Part::ImageUrl(url) => Chunk::ImageUrl { image_url: ImageUrl { url: url.clone() } },
            Part::Document(document) => {
                Chunk::File { file: File { filename: filename(&document.media_type), file_data: data_url(document) } }
            }
            Part::ToolResult(_) => continue,
            Part::ToolCall(_) => return Err(Unsupported("only the assistant can ask for tools".to_owned())),
        });
    }
    Ok(Content::Chunks(chunks))
}

fn data_url(blob: &Blob) -> String {
    format!("data:{};base64,{}", blob.media_type, STANDARD.encode(&blob.data))
}

/// A document needs a name; its ending is how some servers know what it is.
fn filename(media_type: &str) -> String {
    let kind = write::essence(media_type);
    let ending = match kind.as_str() {
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => kind.rsplit('/').next().unwrap_or_default(),
    };
    let is_ending = (1..=8).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_ending { format!("document.{ending}") } else { "document".to_owned() }
}
