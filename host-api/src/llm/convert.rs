//! Between the guest's contract and the backend's plain types.

use super::bindings::llm as guest;
use super::context::Failure;
use super::{
    Attempt, Blob, Delta, FinishReason, LlmError, Message, Part, Request, Response, Role, Tier, Tool, ToolCall,
    ToolResult, Usage,
};
use crate::Denied;

impl From<guest::Request> for Request {
    fn from(request: guest::Request) -> Self {
        Request {
            messages: request.messages.into_iter().map(Into::into).collect(),
            tier: request.tier.map(Into::into),
            model: request.model,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            stop: request.stop,
            tools: request.tools.into_iter().map(Into::into).collect(),
            response_schema: request.response_schema,
        }
    }
}

impl From<guest::Message> for Message {
    fn from(message: guest::Message) -> Self {
        let role = match message.role {
            guest::Role::System => Role::System,
            guest::Role::User => Role::User,
            guest::Role::Assistant => Role::Assistant,
            guest::Role::Tool => Role::Tool,
        };
        Message { role, parts: message.parts.into_iter().map(Into::into).collect() }
    }
}

impl From<guest::Tier> for Tier {
    fn from(tier: guest::Tier) -> Self {
        match tier {
            guest::Tier::Fast => Tier::Fast,
            guest::Tier::Balanced => Tier::Balanced,
            guest::Tier::Quality => Tier::Quality,
        }
    }
}

impl From<guest::Tool> for Tool {
    fn from(guest::Tool { name, description, parameters_schema }: guest::Tool) -> Self {
        Tool { name, description, parameters_schema }
    }
}

impl From<guest::Part> for Part {
    fn from(part: guest::Part) -> Self {
        match part {
            guest::Part::Text(text) => Part::Text(text),
            guest::Part::Image(guest::Blob { media_type, data }) => Part::Image(Blob { media_type, data }),
            guest::Part::ImageUrl(url) => Part::ImageUrl(url),
            guest::Part::Document(guest::Blob { media_type, data }) => Part::Document(Blob { media_type, data }),
            guest::Part::ToolCall(guest::ToolCall { id, name, arguments }) => {
                Part::ToolCall(ToolCall { id, name, arguments })
            }
            guest::Part::ToolResult(guest::ToolResult { call_id, content, is_error }) => {
                Part::ToolResult(ToolResult { call_id, content, is_error })
            }
        }
    }
}

impl From<Part> for guest::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Text(text) => guest::Part::Text(text),
            Part::Image(Blob { media_type, data }) => guest::Part::Image(guest::Blob { media_type, data }),
            Part::ImageUrl(url) => guest::Part::ImageUrl(url),
            Part::Document(Blob { media_type, data }) => guest::Part::Document(guest::Blob { media_type, data }),
            Part::ToolCall(call) => guest::Part::ToolCall(call.into()),
            Part::ToolResult(ToolResult { call_id, content, is_error }) => {
                guest::Part::ToolResult(guest::ToolResult { call_id, content, is_error })
            }
        }
    }
}

impl From<ToolCall> for guest::ToolCall {
    fn from(ToolCall { id, name, arguments }: ToolCall) -> Self {
        guest::ToolCall { id, name, arguments }
    }
}

impl From<Response> for guest::Response {
    fn from(response: Response) -> Self {
        let finish_reason = match response.finish_reason {
            FinishReason::Stop => guest::FinishReason::Stop,
            FinishReason::Length => guest::FinishReason::Length,
            FinishReason::ToolCalls => guest::FinishReason::ToolCalls,
            FinishReason::ContentFilter => guest::FinishReason::ContentFilter,
            FinishReason::Other => guest::FinishReason::Other,
        };
        let Usage { input_tokens, output_tokens, cost_microusd } = response.usage;
        guest::Response {
            parts: response.parts.into_iter().map(Into::into).collect(),
            finish_reason,
            provider: response.provider,
            model: response.model,
            usage: guest::Usage { input_tokens, output_tokens, cost_microusd },
            cached: response.cached,
            attempts: response.attempts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Attempt> for guest::Attempt {
    fn from(Attempt { provider, model, latency_ms, failure }: Attempt) -> Self {
        guest::Attempt { provider, model, latency_ms, failure }
    }
}

impl From<Delta> for guest::Delta {
    fn from(delta: Delta) -> Self {
        match delta {
            Delta::Text(text) => guest::Delta::Text(text),
            Delta::ToolCall(call) => guest::Delta::ToolCall(call.into()),
            Delta::Done(response) => guest::Delta::Done(response.into()),
        }
    }
}

impl From<Failure> for guest::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied(denied) => guest::Error::Denied(denied.into()),
            Failure::Llm(LlmError::Unavailable(what)) => guest::Error::Denied(Denied::Unavailable(what).into()),
            Failure::Llm(LlmError::Invalid(what)) => guest::Error::Denied(Denied::Invalid(what).into()),
            Failure::Llm(LlmError::NoProvider(what)) => guest::Error::NoProvider(what),
            Failure::Llm(LlmError::SchemaMismatch(what)) => guest::Error::SchemaMismatch(what),
            Failure::Llm(LlmError::Refused(what)) => guest::Error::Refused(what),
            Failure::Llm(LlmError::AllFailed(attempts) | LlmError::NotBegun(attempts)) => {
                guest::Error::AllFailed(attempts.into_iter().map(Into::into).collect())
            }
        }
    }
}
