//! The router of one execution: it picks who is asked, asks, tries again, and falls back to the next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::BackoffBuilder as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::attempt::{Told, Written, aside};
use super::cache::{Cache, Key};
use super::config::Route;
use super::failed::{Failed, Next};
use super::protocol::Answer;
use super::{CacheMode, RouterConfig, Shared, Timeouts};
use crate::host_api::llm::{
    Attempt, Delta, Embeddings, LlmError, Part, Price, Request, Response, Router, RouterLimits, Usage,
};

/// Pieces of an answer that wait for their reader.
const PIECES_WAITING_MAX: usize = 32;

/// The router of one execution. All that is its own is in here; what it shares with others carries no identity.
pub(super) struct ExecutionRouter {
    pub(super) config: Arc<RouterConfig>,
    /// When the execution ends.
    pub(super) deadline: Instant,
    /// None where nothing is kept or given again.
    pub(super) cache: Option<Cache>,
    /// The router behind the provider of the kind `offline`.
    pub(super) offline: Arc<dyn Router>,
    pub(super) shared: Arc<Shared>,
    /// Tries of requests whose failure does not tell of them.
    pub(super) untold: Mutex<Vec<Attempt>>,
}

impl Router for ExecutionRouter {
    fn complete(self: Arc<Self>, request: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        let io = self.shared.io.clone();
        let task = AbortOnDropHandle::new(io.spawn(async move { self.answer(&request).await }));
        async move { task.await.unwrap_or_else(|_panic| Err(router_failed())) }.boxed()
    }

    fn stream(self: Arc<Self>, request: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        let (out, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let io = self.shared.io.clone();
        let task = AbortOnDropHandle::new(io.spawn(async move {
            let last = self.write(&request, &out).await.map(Delta::Done);
            // Nobody reads it any more: then nobody misses it.
            let _ = out.send(last).await;
        }));
        let pieces = futures::stream::unfold((pieces, task), |(mut pieces, task)| async move {
            let piece = pieces.recv().await?;
            Some((piece, (pieces, task)))
        });
        pieces.boxed()
    }

    fn embed(
        self: Arc<Self>,
        model: Option<String>,
        inputs: Vec<String>,
    ) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        let io = self.shared.io.clone();
        let task = AbortOnDropHandle::new(io.spawn(async move { self.vectors(model.as_deref(), &inputs).await }));
        async move { task.await.unwrap_or_else(|_panic| Err(router_failed())) }.boxed()
    }

    fn price(&self, request: &Request) -> Option<Price> {
        let routes = self.config.routes(request.model.as_deref(), request.tier).ok()?;
        routes.iter().filter_map(Route::price).reduce(Price::or_dearer)
    }

    fn embedding_price(&self, model: Option<&str>) -> Option<Price> {
        self.config.embedding_route(model).ok()?.price()
    }

    fn forget(&self, request: &Request) {
        if let Some(cache) = self.cache.clone() {
            let key = Key::of(&self.config, request);
            self.shared.io.spawn(async move { cache.forget(key).await });
        }
    }

    fn take_attempts_untold(&self) -> Vec<Attempt> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn repairs_max(&self) -> Option<u32> {
        Some(self.config.settings().repairs_max)
    }

    fn limits(&self) -> RouterLimits {
        self.config.settings().limits
    }

    fn take_fuel_owed(&self) -> u64 {
        self.offline.take_fuel_owed()
    }
}

/// What was tried for one request.
#[derive(Default)]
struct Tried {
    attempts: Vec<Attempt>,
    /// Somebody may have begun who failed.
    begun: bool,
}

impl Tried {
    fn failed(self) -> LlmError {
        if self.begun { LlmError::AllFailed(self.attempts) } else { LlmError::NotBegun(self.attempts) }
    }
}

fn router_failed() -> LlmError {
    LlmError::Unavailable("the router failed".to_owned())
}

impl ExecutionRouter {
    async fn answer(&self, request: &Request) -> Result<Response, LlmError> {
        let Some(cache) = &self.cache else { return self.ask(request, None).await };
        let key = aside(request.bytes(), || Key::of(&self.config, request));
        if let CacheMode::On { ttl_ms } = self.config.settings().cache {
            return cache.get_or_ask(key, Duration::from_millis(ttl_ms), self.ask(request, None)).await;
        }
        match cache.get(key).await {
            Some(kept) => Ok(kept),
            None => self.ask(request, None).await,
        }
    }

    /// Writes the answer to `out`, but for its end. What one reader waits for no other does, so only answers that are
    /// whole are shared.
    async fn write(&self, request: &Request, out: &Told) -> Result<Response, LlmError> {
        let Some(cache) = &self.cache else { return self.ask(request, Some(out)).await };
        let key = aside(request.bytes(), || Key::of(&self.config, request));
        if let Some(kept) = cache.get(key).await {
            for part in &kept.parts {
                let delta = match part {
                    Part::Text(text) => Delta::Text(text.clone()),
                    Part::ToolCall(call) => Delta::ToolCall(call.clone()),
                    _ => continue,
                };
                let _ = out.send(Ok(delta)).await;
            }
            return Ok(kept);
        }
        let response = self.ask(request, Some(out)).await?;
        if let CacheMode::On { ttl_ms } = self.config.settings().cache {
            cache.keep(key, &response, Duration::from_millis(ttl_ms)).await;
        }
        Ok(response)
    }

    /// Goes down the chain until one answers. There is no other loop of retries: not in the HTTP client, not in a
    /// provider.
    async fn ask(&self, request: &Request, out: Option<&Told>) -> Result<Response, LlmError> {
        let mut tried = Tried::default();
        // The longest that a model can read which could not read this.
        let mut too_short: Option<u64> = None;
        let routes = self.config.routes(request.model.as_deref(), request.tier)?;
        for (at, route) in routes.iter().enumerate() {
            let context = route.known.and_then(|model| model.context_tokens);
            if too_short.zip(context).is_some_and(|(known, context)| context <= known) {
                continue;
            }
            let timeouts = self.timeouts(at + 1 == routes.len());
            let asked = self.ask_one(route, &mut tried, || self.attempt(route, request, timeouts, out)).await;
            match asked {
                Ok(Written { answer, model }) => {
                    if let (Some(model), Some(attempt)) = (&model, tried.attempts.last_mut()) {
                        attempt.model.clone_from(model);
                    }
                    return Ok(response(route, model, request, answer, tried.attempts));
                }
                Err(Failed { next: Next::Stop(error), .. }) => return Err(self.untold(tried, error)),
                Err(Failed { next: Next::LargerModel, .. }) => too_short = too_short.max(context),
                Err(_) => {}
            }
        }
        Err(tried.failed())
    }

    /// A refusal is one text: who was tried before it is told there, and counted for the record.
    fn untold(&self, Tried { attempts, .. }: Tried, error: LlmError) -> LlmError {
        let error = match (error, attempts.split_last()) {
            (LlmError::Refused(why), Some((_, before))) if !before.is_empty() => {
                let failure = |attempt: &Attempt| {
                    let failure = attempt.failure.as_deref().unwrap_or_default();
                    format!("{}/{}: {failure}", attempt.provider, attempt.model)
                };
                let before: Vec<String> = before.iter().map(failure).collect();
                LlmError::Refused(format!("{why}; before that {}", before.join("; ")))
            }
            (error, _) => error,
        };
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).extend(attempts);
        error
    }

    /// How long to wait for a provider. One that others can be asked after has half of the time that is left: who hangs
    /// must not take theirs.
    fn timeouts(&self, is_last: bool) -> Timeouts {
        let timeouts = self.config.settings().timeouts;
        if is_last {
            return timeouts;
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let half_ms = u64::try_from(left.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        Timeouts {
            first_token_ms: timeouts.first_token_ms.min(half_ms),
            answer_ms: timeouts.answer_ms.min(half_ms),
            ..timeouts
        }
    }

    /// Tries one provider, and again while that may help.
    async fn ask_one<T, F>(&self, route: &Route, tried: &mut Tried, attempt: impl Fn() -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let retries = self.config.settings().retries;
        let mut waits = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(retries.base_ms))
            .with_max_delay(Duration::from_millis(retries.wait_ms_max))
            .with_max_times(usize::try_from(retries.max).unwrap_or(usize::MAX))
            .with_jitter()
            .build();
        loop {
            let begun = Instant::now();
            let result = attempt().await;
            tried.begun |= result.as_ref().err().is_some_and(|failed| failed.begun);
            tried.attempts.push(Attempt {
                provider: route.provider.name.to_string(),
                model: route.model.clone(),
                latency_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                failure: result.as_ref().err().map(|failed| failed.why.clone()),
            });
            let failed = match result {
                Err(failed) => failed,
                answered => return answered,
            };
            let Next::Again { after } = failed.next else { return Err(failed) };
            let Some(wait) = waits.next() else { return Err(failed) };
            let (after, longest) = (after.unwrap_or_default(), Duration::from_millis(retries.wait_ms_max));
            if after > longest {
                return Err(failed);
            }
            // The jitter too, or all that were told the same time come back at the same time.
            tokio::time::sleep(if after.is_zero() { wait } else { after + wait / 4 }).await;
        }
    }

    async fn vectors(&self, model: Option<&str>, inputs: &[String]) -> Result<Embeddings, LlmError> {
        let route = self.config.embedding_route(model)?;
        let mut tried = Tried::default();
        let asked = self.ask_one(&route, &mut tried, || self.embed_once(&route, inputs)).await;
        match asked {
            Ok((vectors, tokens)) => {
                let counted = tokens.filter(|&tokens| tokens > 0);
                let usage = counted.map(|input_tokens| {
                    let cost_microusd = route.price().map(|price| price.of(input_tokens, 0));
                    Usage { input_tokens, output_tokens: 0, cost_microusd }
                });
                let (provider, model) = (route.provider.name.to_string(), route.model);
                Ok(Embeddings { vectors, provider, model, usage, attempts: tried.attempts })
            }
            Err(Failed { next: Next::Stop(error), .. }) => Err(self.untold(tried, error)),
            Err(_) => Err(tried.failed()),
        }
    }
}

fn response(
    route: &Route,
    model: Option<String>,
    request: &Request,
    answer: Answer,
    attempts: Vec<Attempt>,
) -> Response {
    let Answer { parts, finish_reason, tokens } = answer;
    let mut response = Response {
        parts,
        finish_reason,
        provider: route.provider.name.to_string(),
        model: model.unwrap_or_else(|| route.model.clone()),
        usage: Usage::default(),
        cached: false,
        attempts,
    };
    // A provider that does not count, or counts nothing, or more than the model reads and writes, is believed to have
    // counted what the estimate says.
    let most = route.known.and_then(|model| model.context_tokens).unwrap_or(u64::MAX);
    let counted = |tokens: Option<u64>| tokens.filter(|tokens| (1..=most).contains(tokens));
    let input_tokens = counted(tokens.input).unwrap_or_else(|| request.input_tokens_estimate());
    let output_tokens = counted(tokens.output).unwrap_or_else(|| response.output_tokens_estimate());
    let cost_microusd = route.price().map(|price| price.of(input_tokens, output_tokens));
    response.usage = Usage { input_tokens, output_tokens, cost_microusd };
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::super::LlmSettings;
    use super::super::protocol::Tokens;
    use super::*;
    use crate::host_api::llm::{FinishReason, Message, Role};

    #[test]
    fn what_was_not_counted_is_estimated() {
        let route = RouterConfig::new(LlmSettings::default()).unwrap().routes(None, None).unwrap().remove(0);
        let request = Request { messages: vec![Message::text(Role::User, "one two three")], ..Request::default() };
        let used = |input, output| {
            let parts = vec![Part::Text("four five six".to_owned())];
            let answer = Answer { parts, finish_reason: FinishReason::Stop, tokens: Tokens { input, output } };
            let Usage { input_tokens, output_tokens, .. } = response(&route, None, &request, answer, Vec::new()).usage;
            (input_tokens, output_tokens)
        };
        let estimate = used(None, None);
        assert!(estimate.0 > 0 && estimate.1 > 0, "{estimate:?}");
        assert_eq!(used(Some(0), Some(0)), estimate);
        assert_eq!(used(Some(1_000), Some(2_000)), (1_000, 2_000));
    }
}
