//! Amazon's Bedrock: answers through `Converse`, which is one for all its models, and vectors through `invoke`, which
//! is each model's own.

mod decode;
mod embed;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::write::{self, Arguments, Base64};
use super::{Answer, Ask, Broken, Decoder, Framing, Malformed, Outgoing, Protocol, Refusal, Unsupported, Vectors};
use crate::host_api::llm::{Blob, Message, Part, Request, Role, Tool};

/// The tool that a model answers with if the answer must match a schema. Not all models of Bedrock write to a schema,
/// but those that use tools write arguments to one: so the only tool is the answer, and its arguments are the text.
/// Where the request has tools of its own, or the schema is not that of an object, as arguments must be, the schema is
/// told in words.
const ANSWER_TOOL: &str = "holm_answer";

/// Bedrock refuses texts without anything to read; a tool that gave nothing says so.
const NOTHING: &str = "(nothing)";

/// Bedrock's protocol.
pub(in super::super) struct Bedrock;

impl Protocol for Bedrock {
    fn encode(&self, ask: &Ask<'_>) -> Result<Outgoing, Unsupported> {
        let request = ask.request;
        if request.tools.iter().any(|tool| tool.name == ANSWER_TOOL) {
            return Err(Unsupported(format!("a tool cannot be called `{ANSWER_TOOL}` at bedrock")));
        }
        let schema = request
            .response_schema
            .as_deref()
            .map(|schema| write::schema("the response schema", schema))
            .transpose()?;
        // The newest of Anthropic's models refuse a tool that they must call, and all of them obey words well.
        let by_tool = request.tools.is_empty() && !ask.model.contains("anthropic.");
        let as_tool = schema.filter(|schema| by_tool && is_of_an_object(schema));
        let words = schema.filter(|_| as_tool.is_none()).map(write::schema_in_words);

        let mut conversation = Conversation::default();
        for message in &request.messages {
            conversation.add(message)?;
        }
        conversation.system.extend(words.as_deref().map(|text| TextOut { text }));

        let body = write::body(&Body {
            system: conversation.system,
            messages: conversation.turns,
            inference_config: Inference {
                max_tokens: request.max_tokens,
                // Its range ends at 1, where ours ends at 2.
                temperature: request.temperature.map(|degrees| degrees.min(1.0)),
                stop_sequences: &request.stop,
            },
            tool_config: match as_tool {
                Some(schema) => Some(Tools::only_answer(schema)),
                None => Tools::of(request, &conversation.called)?,
            },
        })?;
        let (method, framing) = match ask.stream {
            true => ("converse-stream", Framing::AwsEvents),
            false => ("converse", Framing::Whole),
        };
        Ok(Outgoing { path: path(ask.model, method)?, headers: &[], body, framing })
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Broken> {
        Ok(decode::whole(body)?)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(decode::Reading::default())
    }

    fn encode_embedding(&self, model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
        embed::encode(model, inputs)
    }

    fn decode_embedding(&self, body: &[u8]) -> Result<Vectors, Malformed> {
        embed::decode(body)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        decode::refusal(status, body)
    }
}

/// Addresses forget segments of one or two dots, however they are written: another path would be asked.
fn path(model: &str, method: &str) -> Result<String, Unsupported> {
    if matches!(model, "" | "." | "..") {
        return Err(Unsupported("bedrock has no model of this name".to_owned()));
    }
    Ok(format!("/model/{}/{method}", write::segment(model)))
}

/// Whether only objects match it, as far as it says so itself.
fn is_of_an_object(schema: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        r#type: Option<&'a RawValue>,
    }
    serde_json::from_str::<Typed<'_>>(schema.get())
        .is_ok_and(|schema| schema.r#type.is_some_and(|kind| kind.get() == "\"object\""))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<TextOut<'a>>,
    messages: Vec<Turn<'a>>,
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Tools<'a>>,
}

#[derive(Serialize)]
struct TextOut<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Block<'a> {
    Text(&'a str),
    Image {
        format: &'static str,
        source: Source<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Source<'a>,
    },
    ToolUse {
        tool_use_id: &'a str,
        name: &'a str,
        input: Arguments<'a>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: [TextOut<'a>; 1],
        /// Some models refuse it; so it is only there if it says something.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct Source<'a> {
    bytes: Base64<'a>,
}

impl<'a> Source<'a> {
    fn of(blob: &'a Blob) -> Self {
        Source { bytes: Base64(&blob.data) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice {
    /// Some tool must be used. More models take this than the order to use a certain one.
    Any {},
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ToolOut<'a> {
    ToolSpec(Spec<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: InputSchema<'a>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: &'a RawValue,
}

impl<'a> Tools<'a> {
    fn only_answer(schema: &'a RawValue) -> Self {
        let tool = ToolOut::new(ANSWER_TOOL, "Give the answer with this.", schema);
        Tools { tools: vec![tool], tool_choice: Some(Choice::Any {}) }
    }

    fn of(request: &'a Request, called: &BTreeSet<&'a str>) -> Result<Option<Self>, Unsupported> {
        let spec = |tool: &'a Tool| {
            let schema = write::schema("the parameters of a tool", &tool.parameters_schema)?;
            Ok(ToolOut::new(&tool.name, &tool.description, schema))
        };
        let mut tools = request.tools.iter().map(spec).collect::<Result<Vec<_>, Unsupported>>()?;
        if tools.is_empty() {
            // Calls of before are refused where no tool is declared.
            let any = write::schema("the parameters of a tool", "{\"type\":\"object\"}")?;
            tools.extend(called.iter().map(|name| ToolOut::new(name, "It cannot be called any more.", any)));
        }
        Ok((!tools.is_empty()).then_some(Tools { tools, tool_choice: None }))
    }
}

impl<'a> ToolOut<'a> {
    fn new(name: &'a str, description: &'a str, schema: &'a RawValue) -> Self {
        ToolOut::ToolSpec(Spec { name, description, input_schema: InputSchema { json: schema } })
    }
}

/// The messages so far, as Bedrock has them.
#[derive(Default)]
struct Conversation<'a> {
    system: Vec<TextOut<'a>>,
    turns: Vec<Turn<'a>>,
    documents: usize,
    /// The names of the tools that were called.
    called: BTreeSet<&'a str>,
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: &'a Message) -> Result<(), Unsupported> {
        let role = match message.role {
            Role::System => return self.add_system(message),
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        for part in &message.parts {
            let block = match part {
                // Bedrock refuses it.
                Part::Text(text) if text.trim().is_empty() => continue,
                Part::Text(text) => Block::Text(text),
                Part::Image(blob) => Block::Image { format: image_format(blob)?, source: Source::of(blob) },
                Part::ImageUrl(_) => {
                    return Err(Unsupported("bedrock takes images as bytes, not by address".to_owned()));
                }
                Part::Document(blob) => {
                    // Models read the name, so it says nothing; it must be the only one of its kind.
                    self.documents += 1;
                    let name = format!("document-{}", self.documents);
                    Block::Document { format: document_format(blob)?, name, source: Source::of(blob) }
                }
                Part::ToolCall(call) => {
                    self.called.insert(&call.name);
                    Block::ToolUse { tool_use_id: &call.id, name: &call.name, input: Arguments(&call.arguments) }
                }
                Part::ToolResult(result) => Block::ToolResult {
                    tool_use_id: &result.call_id,
                    content: [TextOut {
                        text: if result.content.trim().is_empty() { NOTHING } else { &result.content },
                    }],
                    status: result.is_error.then_some("error"),
                },
            };
            match self.turns.last_mut() {
                Some(turn) if turn.role == role => turn.content.push(block),
                _ => self.turns.push(Turn { role, content: vec![block] }),
            }
        }
        Ok(())
    }

    fn add_system(&mut self, message: &'a Message) -> Result<(), Unsupported> {
        for part in &message.parts {
            match part {
                Part::Text(text) if text.trim().is_empty() => {}
                Part::Text(text) => self.system.push(TextOut { text }),
                _ => return Err(Unsupported("bedrock takes only text from the system".to_owned())),
            }
        }
        Ok(())
    }
}

fn image_format(blob: &Blob) -> Result<&'static str, Unsupported> {
    Ok(match write::essence(&blob.media_type).as_str() {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return Err(Unsupported("bedrock takes images as PNG, JPEG, GIF or WebP".to_owned())),
    })
}

fn document_format(blob: &Blob) -> Result<&'static str, Unsupported> {
    Ok(match write::essence(&blob.media_type).as_str() {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" | "text/x-markdown" => "md",
        _ => {
            let known = "PDF, CSV, HTML, Markdown, plain text, Word or Excel";
            return Err(Unsupported(format!("bedrock takes documents as {known}")));
        }
    })
}

#[cfg(test)]
mod tests;
