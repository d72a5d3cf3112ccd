//! Google's Gemini, as `generateContent`.

mod decode;

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::write::{self, Arguments, Base64};
use super::{Answer, Ask, Broken, Decoder, Framing, Malformed, Outgoing, Protocol, Refusal, Unsupported, Vectors};
use crate::host_api::llm::{Blob, Message, Part, Role, ToolCall, ToolResult};

/// Most texts that one request for vectors takes.
const TEXTS_MAX: usize = 100;

/// Newer models refuse a turn whose first call of a tool has not the signature that came with it. A call that went
/// through the guest has none; this one is Google's own word for that.
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
            .map(|schema| write::schema("the response schema", schema))
            .transpose()?;
        // Most models refuse a schema beside tools. Words they all take, and the answer is checked anyway.
        let words = schema.filter(|_| !request.tools.is_empty()).map(write::schema_in_words);
        let schema = schema.filter(|_| request.tools.is_empty());
        system.extend(words.as_deref().map(PartOut::text));

        let declarations = request.tools.iter().map(|tool| {
            let parameters_json_schema = write::schema("the parameters of a tool", &tool.parameters_schema)?;
            let description = Some(tool.description.as_str()).filter(|description| !description.is_empty());
            Ok(Declaration { name: &tool.name, description, parameters_json_schema })
        });
        let declarations = declarations.collect::<Result<Vec<_>, Unsupported>>()?;

        let body = write::body(&Body {
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

    fn decode(&self, body: &[u8]) -> Result<Answer, Broken> {
        Ok(decode::whole(body)?)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(decode::Reading::default())
    }

    fn encode_embedding(&self, model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
        let name = format!("models/{}", bare(model));
        let outgoing = inputs.chunks(TEXTS_MAX).map(|texts| {
            let requests = texts
                .iter()
                .map(|text| EmbedOut { model: &name, content: System { parts: vec![PartOut::text(text)] } });
            let body = write::body(&BatchOut { requests: requests.collect() })?;
            Ok(Outgoing { path: path(model, "batchEmbedContents"), headers: &[], body, framing: Framing::Whole })
        });
        outgoing.collect()
    }

    fn decode_embedding(&self, body: &[u8]) -> Result<Vectors, Malformed> {
        decode::vectors(body)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        decode::refusal(status, body)
    }
}

/// A model's name without the collection that Google's own lists put before it.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn path(model: &str, method: &str) -> String {
    format!("/models/{}:{method}", write::segment(bare(model)))
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

/// A result belongs to a call by its name, and to one of two calls of one tool by its id. We give the guest's id to
/// both, wherever it comes from: to Gemini it only matters that they are the same.
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

#[cfg(test)]
mod tests;
