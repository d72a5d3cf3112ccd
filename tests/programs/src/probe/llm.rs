//! Actions on `llm`.

use std::time::Duration;

use holm_guest::llm::{self, Delta, FinishReason, Response, Tier};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;

/// A request to a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    prompt: String,
    system: Option<String>,
    model: Option<String>,
    /// `fast`, `balanced` or `quality`.
    tier: Option<String>,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    schema: Option<Value>,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    timeout_ms: u64,
}

impl Ask {
    pub fn send(&self) -> Outcome {
        Ok(describe(&self.request(&self.prompt)?.send()?))
    }

    /// Returns the answers in order, and the order in which they came.
    pub fn send_many(&self) -> Outcome {
        let count = self.count;
        let mut pending = Vec::with_capacity(count);
        for number in 0..count {
            let prompt = self.prompt.replace("{i}", &number.to_string());
            pending.push(self.request(&prompt)?.submit()?);
        }
        let mut order = Vec::with_capacity(count);
        let mut answers = vec![Value::Null; count];
        for (number, answer) in llm::as_completed(pending) {
            order.push(number);
            answers[number] = match answer {
                Ok(response) => describe(&response),
                Err(error) => json!({ "error": error.to_string() }),
            };
        }
        Ok(json!({ "answers": answers, "order": order }))
    }

    pub fn send_json(&self) -> Outcome {
        Ok(self.request(&self.prompt)?.send_json()?)
    }

    /// Returns the text of every delta, and the whole answer.
    pub fn stream(&self) -> Outcome {
        let mut deltas = Vec::new();
        let mut response = Value::Null;
        for delta in self.request(&self.prompt)?.stream()? {
            match delta? {
                Delta::Text(text) => deltas.push(json!(text)),
                Delta::ToolCall(call) => deltas.push(json!({ "tool": call.name })),
                Delta::Done(done) => response = describe(&done),
            }
        }
        Ok(json!({ "deltas": deltas, "response": response }))
    }

    /// Returns whether the answer came within `timeout_ms`.
    pub fn ready(&self) -> Outcome {
        let pending = self.request(&self.prompt)?.submit()?;
        Ok(json!(pending.is_ready_within(Duration::from_millis(self.timeout_ms))?))
    }

    pub fn submit_and_drop(&self) -> Outcome {
        drop(self.request(&self.prompt)?.submit()?);
        Ok(Value::Null)
    }

    fn request(&self, prompt: &str) -> Result<llm::Request, String> {
        let mut request = llm::request();
        if let Some(system) = &self.system {
            request = request.system(system);
        }
        request = request.user(prompt);
        if let Some(model) = &self.model {
            request = request.model(model);
        }
        if let Some(tier) = &self.tier {
            request = request.tier(match tier.as_str() {
                "fast" => Tier::Fast,
                "balanced" => Tier::Balanced,
                "quality" => Tier::Quality,
                _ => return Err(format!("no tier `{tier}`")),
            });
        }
        if let Some(max_tokens) = self.max_tokens {
            request = request.max_tokens(max_tokens);
        }
        if let Some(temperature) = self.temperature {
            request = request.temperature(temperature);
        }
        if let Some(schema) = &self.schema {
            request = request.schema(schema);
        }
        Ok(request)
    }
}

pub fn embed(model: Option<&str>, inputs: Vec<String>) -> Outcome {
    Ok(json!(llm::embed_with(model, inputs)?))
}

fn describe(response: &Response) -> Value {
    json!({
        "text": response.text(),
        "provider": response.provider,
        "model": response.model,
        "finish_reason": match response.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool-calls",
            FinishReason::ContentFilter => "content-filter",
            FinishReason::Other => "other",
        },
        "input_tokens": response.usage.input_tokens,
        "output_tokens": response.usage.output_tokens,
        "cost_microusd": response.usage.cost_microusd,
        "cached": response.cached,
        "attempts": response.attempts.len(),
    })
}
