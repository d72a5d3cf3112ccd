//! A provider that answers by itself: for tests, for examples, and for work without a network.

mod embedding;
mod instance;
mod schema;
mod script;
mod seed;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

pub use schema::AnswerSchema;
pub use script::{InvalidScript, Script};

use super::backend::{
    Attempt, Delta, Embeddings, FinishReason, LlmBackend, LlmError, Part, Price, Request, Response, Router, Tier,
    ToolCall, Usage,
};
use crate::{Name, Scope};
use script::{Asked, Reply, Rule};
use seed::Seed;

/// What answers name as their provider.
const PROVIDER: &str = "offline";

/// The model that embeds, where the guest names none.
const EMBED_MODEL: &str = "offline-embed";

/// Fuel for a text to embed, and for each of its bytes.
const EMBED_FUEL: u64 = 1_000;
const EMBED_FUEL_PER_BYTE: u64 = 50;

/// Answers every request from the request alone: no network, no clock, no chance, no memory of the last one.
///
/// - Without a script it answers with a sentence that quotes the user's last message. Requests that
///   differ in more than `max_tokens` get answers that differ.
/// - With a `response_schema` the answer is JSON that matches it. What no answer is found for is a
///   [`LlmError::SchemaMismatch`], and so is an answer that `max_tokens` is too small for: half of it
///   would be no JSON. Stop sequences are for text, and do not cut it.
/// - `tools` are called by a script alone; without one the answer is plain text.
/// - The model is the one that the request names, or else that of the tier: `offline-fast`,
///   `offline-balanced`, `offline-quality`; or else `offline-1`.
/// - Tokens are estimated, at about four bytes each. The cost is 0 unless the script says otherwise.
/// - Vectors of texts with words in common are near each other.
#[derive(Clone, Debug, Default)]
pub struct OfflineProvider {
    script: Arc<Script>,
}

impl OfflineProvider {
    /// A provider without a script.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the script has a rule for is answered as it says, all else as without one.
    pub fn with_script(script: Script) -> Self {
        OfflineProvider { script: Arc::new(script) }
    }
}

impl LlmBackend for OfflineProvider {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        Ok(Arc::new(OfflineRouter::new(Arc::clone(&self.script), scope.user.clone())))
    }
}

struct OfflineRouter {
    script: Arc<Script>,
    user: Name,
    fuel_owed: AtomicU64,
}

impl Router for OfflineRouter {
    fn complete(self: Arc<Self>, request: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        async move { self.answer(&request).await }.boxed()
    }

    fn stream(self: Arc<Self>, request: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        let deltas = |response: Response| {
            let mut deltas: Vec<Delta> = Vec::new();
            for part in &response.parts {
                match part {
                    Part::Text(text) => deltas.extend(text::pieces(text).into_iter().map(Delta::Text)),
                    Part::ToolCall(call) => deltas.push(Delta::ToolCall(call.clone())),
                    _ => {}
                }
            }
            deltas.push(Delta::Done(response));
            stream::iter(deltas.into_iter().map(Ok))
        };
        stream::once(self.complete(request)).map_ok(deltas).try_flatten().boxed()
    }

    fn embed(
        self: Arc<Self>,
        model: Option<String>,
        inputs: Vec<String>,
    ) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        async move {
            self.owe_fuel(inputs.iter().map(|text| EMBED_FUEL + text.len() as u64 * EMBED_FUEL_PER_BYTE).sum());
            let model = model.unwrap_or_else(|| EMBED_MODEL.to_owned());
            Ok(Embeddings {
                vectors: inputs.iter().map(|text| embedding::embed(text)).collect(),
                provider: PROVIDER.to_owned(),
                attempts: vec![attempt(&model, None)],
                model,
                usage: None,
            })
        }
        .boxed()
    }

    fn embedding_price(&self, _: Option<&str>) -> Option<Price> {
        Some(Price { input: 0, output: 0 })
    }

    fn take_fuel_owed(&self) -> u64 {
        self.fuel_owed.swap(0, Ordering::Relaxed)
    }
}

/// What an answer says, and why it ends.
type Said = (Vec<Part>, FinishReason);

impl OfflineRouter {
    fn new(script: Arc<Script>, user: Name) -> Self {
        OfflineRouter { script, user, fuel_owed: AtomicU64::new(0) }
    }

    fn owe_fuel(&self, units: u64) {
        self.fuel_owed.fetch_add(units, Ordering::Relaxed);
    }

    async fn answer(&self, request: &Request) -> Result<Response, LlmError> {
        let Some(text) = &request.response_schema else { return self.answer_within(request, None).await };
        let schema = AnswerSchema::parse(text).inspect_err(|_| self.owe_fuel(AnswerSchema::fuel_to_parse(text)))?;
        let answer = self.answer_within(request, Some(&schema)).await;
        self.owe_fuel(schema.take_fuel_owed());
        answer
    }

    async fn answer_within(&self, request: &Request, schema: Option<&AnswerSchema>) -> Result<Response, LlmError> {
        let model = model_of(request);
        let rule = self.script.rule_for(&Asked::new(request, &self.user, &model));
        if let Some(delay) = rule.map(Rule::delay).filter(|delay| !delay.is_zero()) {
            tokio::time::sleep(delay).await;
        }
        let seed = Seed::of(request);
        let (parts, finish_reason) = match rule.map(Rule::reply) {
            Some(Reply::Never(_)) => std::future::pending().await,
            Some(Reply::Error(error)) => return Err(error.error(&attempt(&model, rule))),
            Some(Reply::ToolCalls(calls)) => {
                let call = |(index, call): (usize, &script::ScriptedCall)| ToolCall {
                    id: format!("call_{}_{index}", seed.tag()),
                    name: call.name.clone(),
                    arguments: call.arguments.to_string(),
                };
                let parts = calls.iter().enumerate().map(call).map(Part::ToolCall).collect();
                (parts, FinishReason::ToolCalls)
            }
            Some(Reply::Text(text)) => written(text.clone(), schema, request)?,
            Some(Reply::Json(value)) => written(value.to_string(), schema, request)?,
            None => unscripted(schema, request, &model, seed)?,
        };
        Ok(response(parts, finish_reason, model, request, rule))
    }
}

/// The answer where no rule says what it is.
fn unscripted(schema: Option<&AnswerSchema>, request: &Request, model: &str, seed: Seed) -> Result<Said, LlmError> {
    let topic = text::topic(&request.last_user_text());
    let Some(schema) = schema else { return written(text::answer(model, &topic, seed), None, request) };
    let answer = instance::instance(schema, seed, &topic, text::bytes_max(request))?;
    Ok((vec![Part::Text(answer.to_string())], FinishReason::Stop))
}

/// Text as the request wants it: cut where it says, or checked against its schema and whole.
fn written(text: String, schema: Option<&AnswerSchema>, request: &Request) -> Result<Said, LlmError> {
    let (text, finish_reason) = match schema {
        None => text::cut(text, request),
        Some(schema) => {
            let _: Value = schema.read(&text)?;
            if text.len() > text::bytes_max(request) {
                let needed = text::output_tokens(text.len());
                let why = format!("it needs {needed} tokens, and `max_tokens` is less");
                return Err(LlmError::SchemaMismatch(why));
            }
            (text, FinishReason::Stop)
        }
    };
    Ok((vec![Part::Text(text)], finish_reason))
}

fn response(
    parts: Vec<Part>,
    finish_reason: FinishReason,
    model: String,
    request: &Request,
    rule: Option<&Rule>,
) -> Response {
    let bytes = parts.iter().map(|part| match part {
        Part::Text(text) => text.len(),
        Part::ToolCall(call) => call.name.len() + call.arguments.len(),
        _ => 0,
    });
    let estimate = Usage {
        input_tokens: text::input_tokens(request),
        output_tokens: text::output_tokens(bytes.sum()),
        cost_microusd: Some(0),
    };
    Response {
        parts,
        finish_reason,
        provider: PROVIDER.to_owned(),
        attempts: vec![attempt(&model, rule)],
        model,
        usage: rule.map_or(estimate, |rule| rule.usage(estimate)),
        cached: false,
    }
}

/// The one attempt that there is. Its latency is the delay that was asked for, not one that was measured.
fn attempt(model: &str, rule: Option<&Rule>) -> Attempt {
    let delay = rule.map_or(Duration::ZERO, Rule::delay);
    Attempt {
        provider: PROVIDER.to_owned(),
        model: model.to_owned(),
        latency_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        failure: None,
    }
}

fn model_of(request: &Request) -> String {
    let of_tier = || match request.tier {
        Some(Tier::Fast) => "offline-fast",
        Some(Tier::Balanced) => "offline-balanced",
        Some(Tier::Quality) => "offline-quality",
        None => "offline-1",
    };
    request.model.clone().unwrap_or_else(|| of_tier().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop there")]
mod tests;
