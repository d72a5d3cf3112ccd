//! How much a request is: what the host holds for it, and what it may cost before anybody was asked.

use std::mem::size_of;

use super::{Blob, Delta, Message, Part, Request, Response, SCHEMA_BYTES_MAX, Tool};

/// Providers wrap every message and every tool in a few tokens of their own.
const TOKENS_PER_ITEM: u64 = 8;

/// Embedding models mark the beginning and the end of each text.
const TOKENS_PER_INPUT: u64 = 2;

/// Most providers bill an image lower. What one bills above it is overdrawn.
const TOKENS_PER_IMAGE: u64 = 2_000;

/// Text is about four bytes a token in English and near three in most other scripts and in code. A
/// reservation that is too small is worse than one that is too large.
const BYTES_PER_TOKEN: u64 = 3;

impl Request {
    /// What the host holds for it, in bytes.
    pub fn bytes(&self) -> u64 {
        let options = size_of::<Request>() + length(self.model.as_ref()) + length(self.response_schema.as_ref());
        let stop: usize = self.stop.iter().map(|text| size_of::<String>() + text.len()).sum();
        let tools: usize = self.tools.iter().map(|tool| size_of::<Tool>() + tool_text(tool)).sum();
        let messages: usize = self.messages.iter().map(message_bytes).sum();
        to_u64(options + stop + tools + messages)
    }

    /// Tokens of the request, estimated on the high side, to reserve them before the provider counts.
    pub fn input_tokens_estimate(&self) -> u64 {
        let messages = self.messages.iter().map(|message| {
            TOKENS_PER_ITEM.saturating_add(message.parts.iter().map(part_tokens).fold(0, u64::saturating_add))
        });
        let tools = self.tools.iter().map(|tool| TOKENS_PER_ITEM + text_tokens(tool_text(tool)));
        let schema = text_tokens(length(self.response_schema.as_ref()));
        messages.chain(tools).fold(schema, u64::saturating_add)
    }
}

impl Request {
    /// Bytes of all schemas in it that are looked at: one that is too large is not.
    pub fn schema_bytes(&self) -> usize {
        let schemas = self.tools.iter().map(|tool| tool.parameters_schema.len());
        schemas.chain(self.response_schema.iter().map(String::len)).filter(|bytes| *bytes <= SCHEMA_BYTES_MAX).sum()
    }

    /// Bytes that the host holds for texts to embed, and their tokens, estimated on the high side.
    pub fn embedding_size(inputs: &[String]) -> (u64, u64) {
        let bytes = inputs.iter().map(|text| size_of::<String>() + text.len()).sum();
        let tokens = inputs.iter().map(|text| TOKENS_PER_INPUT + text_tokens(text.len())).sum();
        (to_u64(bytes), tokens)
    }
}

impl Response {
    /// What the host holds for it, in bytes.
    pub fn bytes(&self) -> u64 {
        let parts: usize = self.parts.iter().map(part_bytes).sum();
        to_u64(size_of::<Response>() + self.provider.len() + self.model.len() + parts)
    }

    /// Its tokens, estimated on the high side, where nobody counted them.
    pub fn output_tokens_estimate(&self) -> u64 {
        self.parts.iter().map(part_tokens).fold(0, u64::saturating_add)
    }
}

impl Delta {
    /// What the guest is given with it, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Delta::Text(text) => text.len(),
            Delta::ToolCall(call) => call.name.len() + call.arguments.len(),
            Delta::Done(response) => usize::try_from(response.bytes()).unwrap_or(usize::MAX),
        }
    }
}

fn message_bytes(message: &Message) -> usize {
    size_of::<Message>() + message.parts.iter().map(part_bytes).sum::<usize>()
}

fn part_bytes(part: &Part) -> usize {
    size_of::<Part>()
        + match part {
            Part::Text(text) | Part::ImageUrl(text) => text.len(),
            Part::Image(blob) | Part::Document(blob) => blob.media_type.len() + blob.data.len(),
            Part::ToolCall(call) => call.id.len() + call.name.len() + call.arguments.len(),
            Part::ToolResult(result) => result.call_id.len() + result.content.len(),
        }
}

fn part_tokens(part: &Part) -> u64 {
    match part {
        Part::Text(text) => text_tokens(text.len()),
        Part::Image(_) | Part::ImageUrl(_) => TOKENS_PER_IMAGE,
        Part::Document(Blob { data, .. }) => text_tokens(data.len()),
        Part::ToolCall(_) | Part::ToolResult(_) => text_tokens(part_bytes(part)),
    }
}

fn text_tokens(bytes: usize) -> u64 {
    to_u64(bytes).div_ceil(BYTES_PER_TOKEN)
}

fn tool_text(tool: &Tool) -> usize {
    tool.name.len() + tool.description.len() + tool.parameters_schema.len()
}

fn length(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    #[test]
    fn everything_that_is_held_counts() {
        let empty = Request::default();
        let mut full = Request {
            messages: vec![Message::text(Role::User, "x".repeat(300))],
            response_schema: Some("{}".repeat(50)),
            ..Request::default()
        };
        assert!(full.bytes() >= empty.bytes() + 400);
        assert_eq!(full.input_tokens_estimate(), 8 + 100 + 34);

        let blob = Blob { media_type: "image/png".to_owned(), data: vec![0; 9_000] };
        let before = (full.bytes(), full.input_tokens_estimate());
        full.messages.push(Message { role: Role::User, parts: vec![Part::Image(blob.clone()), Part::Document(blob)] });
        assert!(full.bytes() >= before.0 + 18_000);
        assert_eq!(full.input_tokens_estimate(), before.1 + 8 + 2_000 + 3_000);
    }

    #[test]
    fn a_million_empty_messages_are_not_free() {
        let request =
            Request { messages: vec![Message { role: Role::User, parts: Vec::new() }; 1_000], ..Request::default() };
        assert!(request.bytes() >= 1_000 * 24 && request.input_tokens_estimate() == 8_000);
    }
}
