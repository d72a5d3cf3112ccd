//! One try at one provider, and what its failure means for the next.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::config::Route;
use super::protocol::{self, Answer, Ask, Broken, Malformed, Piece, Protocol, Refusal, Tokens, Unsupported, Why};
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

/// A try that gave no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// A clause for the user: no key, no address.
    pub(super) why: String,
    pub(super) next: Next,
}

/// What to do after a failed try.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The same provider may answer the next time, after a time that it may have said.
    Again { after: Option<Duration> },
    /// Another provider may.
    Another,
    /// A model that can read more may.
    LargerModel,
    /// No provider would.
    Stop(LlmError),
}

impl Failed {
    fn another(why: impl Into<String>) -> Self {
        Failed { why: why.into(), next: Next::Another }
    }
}

impl From<Malformed> for Failed {
    fn from(Malformed(why): Malformed) -> Self {
        Failed::another(why)
    }
}

impl From<Unsupported> for Failed {
    fn from(Unsupported(why): Unsupported) -> Self {
        Failed::another(why)
    }
}

impl ExecutionRouter {
    /// Asks one provider once. What it writes goes to `out` as it comes, if there is one. From the first piece on nobody
    /// else can be asked: the guest has it.
    pub(super) async fn attempt(
        &self,
        route: &Route,
        request: &Request,
        out: Option<&Told>,
    ) -> Result<Written, Failed> {
        let Some(protocol) = protocol::of(&route.provider) else {
            return self.ask_offline(route, request, out).await;
        };
        let ask = Ask { request, model: &route.model, stream: out.is_some() };
        let call = Call {
            provider: &route.provider,
            outgoing: protocol.encode(&ask)?,
            timeouts: self.config.settings().timeouts,
        };
        let answer = match out {
            None => {
                let body = self.shared.wire.whole(call).await;
                let body = body.map_err(|error| failed_on_wire(route, protocol.as_ref(), error))?;
                protocol.decode(&body).map_err(|broken| broken_off(route, broken))?
            }
            Some(out) => {
                let mut given = false;
                let written = self.read_events(route, protocol.as_ref(), call, out, &mut given).await;
                written.map_err(|failed| if given { broke_off(route, failed) } else { failed })?
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
        let (mut pieces, mut bytes) = (Vec::new(), 0_usize);
        while let Some(event) = events.next().await.map_err(on_wire)? {
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
        Ok(decoder.finish()?)
    }

    /// The provider that needs no network has a router of its own.
    async fn ask_offline(&self, route: &Route, request: &Request, out: Option<&Told>) -> Result<Written, Failed> {
        let mut request = request.clone();
        request.model = Some(route.model.clone()).filter(|model| !model.is_empty());
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
            LlmError::AllFailed(attempts) => {
                let failure = attempts.into_iter().filter_map(|attempt| attempt.failure).next_back();
                Failed::another(failure.unwrap_or_else(|| "it failed".to_owned()))
            }
            error => Failed { why: error.to_string(), next: Next::Stop(error) },
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
            let answered = answered.map_err(|error| Failed { why: error.to_string(), next: Next::Stop(error) })?;
            return Ok((answered.vectors, None));
        };
        let (mut vectors, mut tokens) = (Vec::with_capacity(inputs.len()), Some(0_u64));
        for outgoing in protocol.encode_embedding(&route.model, inputs)? {
            let call = Call { provider: &route.provider, outgoing, timeouts: self.config.settings().timeouts };
            let body = self.shared.wire.vectors(call).await;
            let body = body.map_err(|error| failed_on_wire(route, protocol.as_ref(), error))?;
            let answer = protocol.decode_embedding(&body)?;
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

/// What the guest has of an answer cannot be taken back, so there is no other try.
fn broke_off(_route: &Route, failed: Failed) -> Failed {
    match failed.next {
        Next::Stop(_) => failed,
        _ => {
            let error = LlmError::Unavailable(format!("the answer broke off: {}", failed.why));
            Failed { why: failed.why, next: Next::Stop(error) }
        }
    }
}

fn broken_off(route: &Route, broken: Broken) -> Failed {
    match broken {
        Broken::Malformed(malformed) => malformed.into(),
        Broken::Refused(refusal) => refused(route, refusal, None),
    }
}

fn failed_on_wire(route: &Route, protocol: &dyn Protocol, error: WireError) -> Failed {
    let again = |why: String| Failed { why, next: Next::Again { after: None } };
    match error {
        // Nobody follows: it could lead anywhere, and the key would go with it. What the next provider says of the request is
        // open.
        WireError::Status { status: status @ 300..=399, .. } => {
            Failed::another(format!("it answers from elsewhere ({status}), and redirects are not followed"))
        }
        WireError::Status { status, retry_after, body } => {
            refused(route, protocol.refusal(status, &body), Some((status, retry_after)))
        }
        WireError::Connect(why) | WireError::BrokeOff(why) => again(why),
        WireError::Forbidden => Failed::another("its address is not one of the public internet"),
        WireError::TimedOut { waiting_for: waiting_for @ "connect", after_ms } => {
            again(format!("timed out ({waiting_for}) after {after_ms} ms"))
        }
        // It was waited for long enough.
        WireError::TimedOut { waiting_for, after_ms } => {
            Failed::another(format!("timed out ({waiting_for}) after {after_ms} ms"))
        }
        WireError::TooLarge { bytes_max } => {
            Failed::another(format!("the answer is larger than the {bytes_max} bytes that are read"))
        }
        WireError::Request(why) => Failed::another(why),
    }
}

fn refused(route: &Route, refusal: Refusal, status: Option<(u16, Option<Duration>)>) -> Failed {
    let message = wire::redact(&refusal.message, route.provider.credentials.secrets());
    let (status, after) = status.map_or((String::new(), None), |(status, after)| (format!(" ({status})"), after));
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let why = |what: &str| format!("{what}{status}{said}");
    match refusal.why {
        Why::RateLimited => Failed { why: why("too many requests"), next: Next::Again { after } },
        Why::Server => Failed { why: why("the server failed"), next: Next::Again { after } },
        Why::ContextLength => {
            Failed { why: why("the request is longer than the model can read"), next: Next::LargerModel }
        }
        Why::Key => Failed::another(why("the key is not accepted")),
        Why::NotFound => Failed::another(why("there is no such model")),
        Why::Content => {
            let why = why("the content is not allowed");
            let error = LlmError::Refused(format!("{}: {why}", route.provider.name));
            Failed { why, next: Next::Stop(error) }
        }
        Why::Request => {
            let why = why("the request is not accepted");
            let error = LlmError::Refused(format!("{}: {why}", route.provider.name));
            Failed { why, next: Next::Stop(error) }
        }
    }
}
