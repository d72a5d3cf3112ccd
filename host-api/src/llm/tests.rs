//! The host functions of `llm`, called directly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

mod conversion;
mod denial;
mod pending;
mod spending;
mod streams;
mod structured;

use std::sync::{Arc, Mutex};

use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use wasmtime::component::Resource;

use super::bindings::llm as guest;
use super::bindings::llm::{Host as _, HostCompletion as _, HostPending as _};
use super::*;
use crate::BudgetName::{LlmCostMicrousd, LlmRequestBytes, LlmRequests, LlmRequestsOpen, LlmTokens};
use crate::bindings::types::Denied as GuestDenied;
use crate::fixture::{Fixture, Host, exhausted, lend, settle};
use crate::{Outcome, Scope, View};

type Answered = Result<guest::Response, guest::Error>;

/// An execution whose models follow this script.
fn scripted(rules: &Value) -> Fixture {
    let script = Script::from_json(&json!({ "rules": rules }).to_string()).unwrap();
    Fixture::new().with(Llm::new(Arc::new(OfflineProvider::with_script(script))))
}

/// An execution whose models answer so.
fn answering<F, A>(answer: F) -> Fixture
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Response, LlmError>> + Send + 'static,
{
    let answer = Arc::new(move |request| answer(request).boxed());
    Fixture::new().with(Llm::new(Arc::new(Backend(answer))))
}

#[derive(Clone)]
struct Backend(Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Response, LlmError>> + Send + Sync>);

impl LlmBackend for Backend {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Router for Backend {
    fn complete(self: Arc<Self>, request: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        (self.0)(request)
    }

    fn stream(self: Arc<Self>, request: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        stream::once(future::lazy(move |_| (self.0)(request)).flatten()).map_ok(Delta::Done).boxed()
    }

    /// Of one model: two microdollars a token of input, three of output.
    fn price(&self, request: &Request) -> Option<Price> {
        (request.model.as_deref() == Some("priced")).then_some(Price { input: 2_000_000, output: 3_000_000 })
    }

    /// The vector of an input is its length, and that of the answer.
    fn embed(
        self: Arc<Self>,
        _: Option<String>,
        inputs: Vec<String>,
    ) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        let messages = inputs.iter().map(|text| Message::text(Role::User, text.as_str())).collect();
        let answered = (self.0)(Request { messages, ..Request::default() });
        answered
            .map_ok(move |answer| Embeddings {
                vectors: inputs.iter().map(|text| vec![text.len() as f32, answer.parts.len() as f32]).collect(),
                provider: answer.provider,
                model: answer.model,
                usage: None,
                attempts: answer.attempts,
            })
            .boxed()
    }
}

/// An answer of one text that used these tokens.
fn answer(input_tokens: u64, output_tokens: u64) -> Response {
    Response {
        parts: vec![Part::Text("yes".to_owned())],
        finish_reason: FinishReason::Stop,
        provider: "test".to_owned(),
        model: "test-1".to_owned(),
        usage: Usage { input_tokens, output_tokens, cost_microusd: None },
        cached: false,
        attempts: Vec::new(),
    }
}

fn view(host: &mut Host) -> View<'_, LlmContext> {
    host.view()
}

/// A request whose input is estimated at 8 tokens and one for each three bytes.
fn ask(text: &str) -> guest::Request {
    guest::Request {
        messages: vec![guest::Message { role: guest::Role::User, parts: vec![guest::Part::Text(text.to_owned())] }],
        tier: None,
        model: None,
        max_tokens: None,
        temperature: None,
        stop: Vec::new(),
        tools: Vec::new(),
        response_schema: None,
    }
}

async fn complete(host: &mut Host, request: guest::Request) -> Answered {
    view(host).complete(request).await.unwrap()
}

fn submit(host: &mut Host, request: guest::Request) -> Result<Resource<PendingAnswer>, guest::Error> {
    view(host).submit(request).unwrap()
}

async fn wait(
    host: &mut Host,
    requests: &[&Resource<PendingAnswer>],
    timeout_ms: Option<u64>,
) -> Result<Vec<u32>, GuestDenied> {
    view(host).wait(requests.iter().map(|pending| lend(pending)).collect(), timeout_ms).await.unwrap()
}

fn get(host: &mut Host, pending: &Resource<PendingAnswer>) -> Option<Answered> {
    view(host).get(lend(pending)).unwrap()
}

fn drop_pending(host: &mut Host, pending: Resource<PendingAnswer>) {
    guest::HostPending::drop(&mut view(host), pending).unwrap();
}

fn start_stream(host: &mut Host, request: guest::Request) -> Result<Resource<Completion>, guest::Error> {
    view(host).start_stream(request).unwrap()
}

async fn next(host: &mut Host, completion: &Resource<Completion>) -> Option<Result<guest::Delta, guest::Error>> {
    view(host).next(lend(completion)).await.unwrap()
}

async fn embed(host: &mut Host, inputs: &[&str]) -> Result<Vec<Vec<f32>>, guest::Error> {
    view(host).embed(None, inputs.iter().map(|&input| input.to_owned()).collect()).await.unwrap()
}

fn text_of(response: &guest::Response) -> &str {
    match response.parts.as_slice() {
        [guest::Part::Text(text)] => text,
        parts => panic!("{parts:?}"),
    }
}

/// The budget that denied a request.
#[track_caller]
fn budget_of(error: &guest::Error) -> &str {
    match error {
        guest::Error::Denied(denied) => exhausted(denied),
        error => panic!("{error:?}"),
    }
}

/// What is held for requests that are under way: tokens and places.
fn held(host: &Host) -> (u64, u64) {
    (host.used(LlmTokens), host.used(LlmRequestsOpen))
}

#[tokio::test]
async fn an_answer_comes_with_its_usage_and_is_a_child_of_the_current_call() {
    let usage = json!({ "input_tokens": 7, "output_tokens": 5, "cost_microusd": 30 });
    let mut host = scripted(&json!([{ "reply": { "text": "sunny" }, "usage": usage }])).open().await;
    let response = complete(&mut host, ask("the weather?")).await.unwrap();
    assert_eq!((text_of(&response), response.provider.as_str()), ("sunny", "offline"));
    assert_eq!((response.usage.input_tokens, response.usage.output_tokens), (7, 5));
    assert_eq!((held(&host), host.used(LlmCostMicrousd), host.used(LlmRequests)), ((12, 0), 30, 1));
    assert_eq!(
        (host.shape().as_str(), host.journal()),
        ("execution open(llm.complete ok())", vec!["llm.complete".to_owned()])
    );
    let call = &host.tree().children[0];
    assert_eq!(call.inputs.to_value().pointer("/messages/0/parts/0/text"), Some(&json!("the weather?")));
    assert_eq!(call.output.as_ref().unwrap().to_value().pointer("/parts/0/text"), Some(&json!("sunny")));
    assert_eq!(call.tokens().unwrap().output, 5);
}

#[tokio::test]
async fn the_record_tells_what_was_used() {
    let mut host = answering(async |request: Request| match request.last_user_text().as_str() {
        "fail" => Err(LlmError::Refused("no".to_owned())),
        "hang" => future::pending().await,
        "again" => Ok(Response { cached: true, ..answer(0, 0) }),
        _ => Ok(Response { usage: Usage { cost_microusd: Some(9), ..answer(3, 4).usage }, ..answer(3, 4) }),
    })
    .open()
    .await;
    complete(&mut host, ask("a")).await.unwrap();
    complete(&mut host, ask("again")).await.unwrap();
    complete(&mut host, ask("fail")).await.unwrap_err();
    embed(&mut host, &["x"]).await.unwrap();
    embed(&mut host, &["fail"]).await.unwrap_err();
    let _unread = submit(&mut host, ask("b")).unwrap();
    let hanging = submit(&mut host, ask("hang")).unwrap();
    let stream = start_stream(&mut host, ask("c")).unwrap();
    next(&mut host, &stream).await.unwrap().unwrap();
    settle().await;
    drop_pending(&mut host, hanging);
    complete(&mut host, guest::Request { stop: vec![String::new()], ..ask("denied") }).await.unwrap_err();
    let report = host.finish(Outcome::Completed).await;
    // Four letters make a request of 10 tokens, or of 4 to embed. One was answered from a cache.
    let input_tokens = 3 * 3 + (10 + 10) + (3 + 4);
    let expected = json!({
        "requests": 8, "failed": 2, "cached": 1, "input_tokens": input_tokens, "output_tokens": 12, "cost_microusd": 27,
        "unpriced": 2, "attempts": 0, "latency_ms": 0,
        // Four answers and the vectors of one text; what failed or was given up is nobody's.
        "models": [{
            "provider": "test", "model": "test-1", "requests": 5, "cached": 1, "input_tokens": 12, "output_tokens": 12,
            "cost_microusd": 27, "attempts": 0, "failed_attempts": 0, "latency_ms": 0,
        }],
    });
    assert_eq!((&report.usage["llm"], report.failures), (&expected, Vec::new()));
    assert_eq!(host.used(LlmTokens), input_tokens + 12);
    assert_eq!(host.used(LlmRequests), 8);
}

/// What the host holds for a text beside its bytes.
const STRING: u64 = size_of::<String>() as u64;

#[tokio::test]
async fn embedding_gives_a_vector_an_input() {
    let mut host = scripted(&json!([])).open().await;
    let vectors = embed(&mut host, &["night owls", "a bakery", "night owls"]).await.unwrap();
    assert_eq!((vectors.len(), &vectors[0]), (3, &vectors[2]));
    assert_ne!(vectors[0], vectors[1]);
    assert_eq!(embed(&mut host, &[]).await.unwrap(), Vec::<Vec<f32>>::new());
    assert_eq!(
        (host.used(LlmRequests), host.used(LlmRequestBytes), host.used(LlmTokens)),
        (2, 28 + 3 * STRING, 3 * 2 + 4 + 3 + 4)
    );
    assert_eq!(host.shape(), "execution open(llm.embed ok(), llm.embed ok())");
    assert_eq!(host.journal(), ["llm.embed", "llm.embed"]);
}

/// The runtime catches such a panic and ends the execution as a host error.
#[tokio::test]
async fn a_backend_that_panics_while_the_guest_waits_leaves_all_in_order() {
    let mut host = answering(async |request: Request| match request.last_user_text().as_str() {
        "fine" => Ok(answer(1, 1)),
        _ => panic!("a panic that belongs to this test"),
    })
    .open()
    .await;
    let panicked = std::panic::AssertUnwindSafe(complete(&mut host, ask("x"))).catch_unwind().await;
    assert!(panicked.is_err());
    assert_eq!((held(&host), host.shape().as_str()), ((9, 0), "execution open(llm.complete error())"));
    assert_eq!(host.tree().children[0].error.as_deref(), Some("the host failed"));
    let panicked = std::panic::AssertUnwindSafe(embed(&mut host, &["x"])).catch_unwind().await;
    assert!(panicked.is_err());
    assert_eq!(held(&host), (9 + 3, 0), "who was asked may bill it");
    complete(&mut host, ask("fine")).await.unwrap();
    let report = host.finish(Outcome::HostError).await;
    assert_eq!((report.failures, &report.usage["llm"]["input_tokens"]), (Vec::new(), &json!(9 + 3 + 1)));
    assert_eq!(host.shape(), "execution host_error(llm.complete error(), llm.embed error(), llm.complete ok())");
}

#[tokio::test]
async fn a_router_that_cannot_be_opened_is_a_host_error() {
    struct Down;
    impl LlmBackend for Down {
        fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
            Err(LlmError::NoProvider("your context names none".to_owned()))
        }
    }
    let mut set = crate::CapabilitySet::default();
    set.add(Llm::new(Arc::new(Down))).unwrap();
    let meter = crate::Meter::new(crate::Budget::default());
    let mut gate = Gate::new(Arc::new(crate::fixture::scope()), Arc::new(meter));
    let Err(error) = set.open(&mut gate, crate::fixture::WALL).await else { panic!() };
    assert_eq!(error.message(), "`llm` could not be opened: no provider: your context names none");
}
