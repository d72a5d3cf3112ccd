//! One try at one provider.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::Timeouts;
use super::config::Route;
use super::failed::{Failed, Next, broke_off, broken_off, failed_on_wire};
use super::protocol::{self, Answer, Ask, Piece, Protocol, Tokens};
use super::router::ExecutionRouter;
use super::wire::{self, Call, WireError};
use crate::host_api::llm::{Delta, LlmError, Request};

/// An answer is whole when its provider says so, whether or not the connection comes to an end. One that does so in this
/// time can be used again.
const END_TIME_MAX: Duration = Duration::from_millis(100);

/// Where pieces of an answer go.
pub(super) type Told = mpsc::Sender<Result<Delta, LlmError>>;

/// An answer, and the model that gave it where that is not the one of the route.
pub(super) struct Written {
    pub(super) answer: Answer,
    pub(super) model: Option<String>,
}

impl ExecutionRouter {
    /// Asks one provider once. What it writes goes to `out` as it comes, if there is one. From the first piece on nobody
    /// else can be asked: the guest has it.
    pub(super) async fn attempt(
        &self,
        route: &Route,
        request: &Request,
        timeouts: Timeouts,
        out: Option<&Told>,
    ) -> Result<Written, Failed> {
        let Some(protocol) = protocol::of(&route.provider) else {
            return self.ask_offline(route, request, out).await;
        };
        let ask = Ask { request, model: &route.model, stream: out.is_some() };
        let outgoing = aside(request.bytes(), || protocol.encode(&ask))?;
        let call = Call { provider: &route.provider, outgoing, timeouts };
        let answer = match out {
            None => {
                let body = self.shared.wire.whole(call).await;
                let body = body.map_err(|error| failed_on_wire(route, protocol.as_ref(), error))?;
                aside(body.len() as u64, || protocol.decode(&body)).map_err(|broken| broken_off(route, broken))?
            }
            Some(out) => {
                let mut given = false;
                let written = self.read_events(route, protocol.as_ref(), call, out, &mut given).await;
                written.map_err(|failed| if given { broke_off(failed) } else { failed })?
            }
        };
        Ok(Written { answer, model: None })
    }

    async fn read_events(
        &self,
        route: &Route,
        protocol: &dyn Protocol,
        call: Call<'_>,
        out: &Told,
        given: &mut bool,
    ) -> Result<Answer, Failed> {
        let on_wire = |error| failed_on_wire(route, protocol, error);
        let mut events = self.shared.wire.open(call).await.map_err(on_wire)?;
        let mut decoder = protocol.decoder();
        let (mut pieces, mut bytes, mut began) = (Vec::new(), 0_usize, false);
        while let Some(event) = events.next().await.map_err(on_wire)? {
            began = true;
            let read = decoder.event(&event.name, &event.data, &mut pieces);
            for piece in pieces.drain(..) {
                *given = true;
                let delta = match piece {
                    Piece::Text(text) => Delta::Text(text),
                    Piece::ToolCall(call) => Delta::ToolCall(call),
                };
                bytes = bytes.saturating_add(delta.bytes());
                if bytes > wire::ANSWER_BYTES_MAX {
                    return Err(on_wire(WireError::TooLarge { bytes_max: wire::ANSWER_BYTES_MAX }));
                }
                if out.send(Ok(delta)).await.is_err() {
                    return Err(Failed::another("nobody reads the answer"));
                }
            }
            read.map_err(|broken| broken_off(route, broken))?;
            if decoder.is_over() {
                events.end_within(END_TIME_MAX).await;
                break;
            }
        }
        if !began {
            return Err(Failed::another("the answer is no stream of events"));
        }
        Ok(decoder.finish()?)
    }

    /// The provider that needs no network has a router of its own.
    async fn ask_offline(&self, route: &Route, request: &Request, out: Option<&Told>) -> Result<Written, Failed> {
        let mut request = request.clone();
        request.model = Some(route.model.clone()).filter(|model| !model.is_empty());
        request.tier = request.tier.or(self.config.settings().tier);
        let offline = std::sync::Arc::clone(&self.offline);
        let answered = match out {
            None => offline.complete(request).await,
            Some(out) => {
                let mut deltas = offline.stream(request);
                loop {
                    match deltas.next().await {
                        Some(Ok(Delta::Done(response))) => break Ok(response),
                        Some(Err(error)) => break Err(error),
                        Some(delta) => drop(out.send(delta).await),
                        None => break Err(LlmError::Unavailable("the answer broke off".to_owned())),
                    }
                }
            }
        };
        let response = answered.map_err(|error| match error {
            LlmError::AllFailed(attempts) | LlmError::NotBegun(attempts) => {
                let failure = attempts.into_iter().filter_map(|attempt| attempt.failure).next_back();
                Failed::another(failure.unwrap_or_else(|| "it failed".to_owned()))
            }
            error => Failed { why: error.to_string(), begun: true, next: Next::Stop(error) },
        })?;
        let tokens = Tokens { input: Some(response.usage.input_tokens), output: Some(response.usage.output_tokens) };
        let answer = Answer { parts: response.parts, finish_reason: response.finish_reason, tokens };
        Ok(Written { answer, model: Some(response.model) })
    }

    /// Embeds texts at one provider, once.
    pub(super) async fn embed_once(
        &self,
        route: &Route,
        inputs: &[String],
    ) -> Result<(Vec<Vec<f32>>, Option<u64>), Failed> {
        let Some(protocol) = protocol::of(&route.provider) else {
            let offline = std::sync::Arc::clone(&self.offline);
            let model = Some(route.model.clone()).filter(|model| !model.is_empty());
            let answered = offline.embed(model, inputs.to_vec()).await;
            let answered =
                answered.map_err(|error| Failed { why: error.to_string(), begun: true, next: Next::Stop(error) })?;
            return Ok((answered.vectors, None));
        };
        let (mut vectors, mut tokens) = (Vec::with_capacity(inputs.len()), Some(0_u64));
        for outgoing in protocol.encode_embedding(&route.model, inputs)? {
            let call = Call { provider: &route.provider, outgoing, timeouts: self.config.settings().timeouts };
            let body = self.shared.wire.vectors(call).await;
            let body = body.map_err(|error| failed_on_wire(route, protocol.as_ref(), error))?;
            let answer = aside(body.len() as u64, || protocol.decode_embedding(&body))?;
            vectors.extend(answer.vectors);
            tokens = tokens.zip(answer.input_tokens).map(|(sum, more)| sum.saturating_add(more));
        }
        if vectors.len() != inputs.len() {
            let why = format!("the answer has {} vectors for {} texts", vectors.len(), inputs.len());
            return Err(Failed::another(why));
        }
        Ok((vectors, tokens))
    }
}

/// More than this is not translated on a thread that others wait for.
const AT_ONCE_BYTES_MAX: u64 = 64 << 10;

/// Does work on so many bytes while other threads look after what this one did.
pub(super) fn aside<T>(bytes: u64, work: impl FnOnce() -> T) -> T {
    if bytes > AT_ONCE_BYTES_MAX { tokio::task::block_in_place(work) } else { work() }
}
