//! Answers that are read as they are written.

use std::time::Duration;

use super::*;
use crate::BudgetName::Handles;

/// A backend whose streams are these deltas, or hang or panic after them.
struct Deltas {
    deltas: Vec<Result<Delta, LlmError>>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Hangs,
    Panics,
}

impl LlmBackend for Deltas {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        Ok(Arc::new(Deltas { deltas: self.deltas.clone(), then: self.then }))
    }
}

impl Router for Deltas {
    fn complete(self: Arc<Self>, _: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        future::pending().boxed()
    }

    fn stream(self: Arc<Self>, _: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        let deltas = stream::iter(self.deltas.clone());
        match self.then {
            Then::Ends => deltas.boxed(),
            Then::Hangs => deltas.chain(stream::pending()).boxed(),
            Then::Panics => deltas.chain(stream::poll_fn(|_| panic!("a panic that belongs to this test"))).boxed(),
        }
    }

    fn embed(self: Arc<Self>, _: Option<String>, _: Vec<String>) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        future::pending().boxed()
    }
}

fn streaming(deltas: &[Result<Delta, LlmError>], then: Then) -> Fixture {
    Fixture::new().with(Llm::new(Arc::new(Deltas { deltas: deltas.to_vec(), then })))
}

fn said(text: &str) -> Result<Delta, LlmError> {
    Ok(Delta::Text(text.to_owned()))
}

/// The text that comes next.
#[track_caller]
fn text(next: Option<Result<guest::Delta, guest::Error>>) -> String {
    match next {
        Some(Ok(guest::Delta::Text(text))) => text,
        next => panic!("{next:?}"),
    }
}

#[tokio::test]
async fn pieces_come_then_the_whole_answer_then_nothing() {
    let call = ToolCall { id: "1".to_owned(), name: "add".to_owned(), arguments: "{}".to_owned() };
    let deltas =
        [said("a"), Ok(Delta::ToolCall(call)), said("b"), Ok(Delta::Done(answer(2, 3))), said("after the end")];
    let mut host = streaming(&deltas, Then::Ends).open().await;
    let stream = start_stream(&mut host, ask("x")).unwrap();
    assert_eq!(text(next(&mut host, &stream).await), "a");
    let Some(Ok(guest::Delta::ToolCall(call))) = next(&mut host, &stream).await else { panic!() };
    assert_eq!((call.id.as_str(), call.name.as_str(), call.arguments.as_str()), ("1", "add", "{}"));
    assert_eq!(text(next(&mut host, &stream).await), "b");
    assert!(held(&host).0 > 4096 && held(&host).1 == 1, "what was taken is held until the end");
    assert_eq!((host.shape().as_str(), host.journal().len()), ("execution open(llm.complete open())", 4));
    let Some(Ok(guest::Delta::Done(response))) = next(&mut host, &stream).await else { panic!() };
    assert_eq!((text_of(&response), response.usage.output_tokens), ("yes", 3));
    assert_eq!((held(&host), host.shape().as_str()), ((5, 0), "execution open(llm.complete ok())"));
    for _ in 0..3 {
        assert!(next(&mut host, &stream).await.is_none());
    }
    guest::HostCompletion::drop(&mut view(&mut host), stream).unwrap();
    assert_eq!((held(&host), host.journal().len()), ((5, 0), 1 + 7));
    let (entries, _) = host.state.gate().journal().unwrap().entries();
    let results: Vec<_> = entries.iter().map(|entry| entry.result.clone().unwrap()).collect();
    assert_eq!(results[..2], [Value::Null, json!({ "text": "a" })]);
    assert_eq!(results[4].pointer("/done/usage/output_tokens"), Some(&json!(3)));
    assert_eq!((results[5].clone(), entries[5].function), (Value::Null, "next"));
}

#[tokio::test]
async fn the_offline_provider_streams_what_it_completes() {
    let mut host = scripted(&json!([])).open().await;
    let whole = complete(&mut host, ask("Tell me of streams")).await.unwrap();
    let stream = start_stream(&mut host, ask("Tell me of streams")).unwrap();
    let mut pieces = String::new();
    loop {
        match next(&mut host, &stream).await.unwrap().unwrap() {
            guest::Delta::Text(piece) => pieces += &piece,
            guest::Delta::Done(response) => break assert_eq!(text_of(&response), pieces),
            delta @ guest::Delta::ToolCall(_) => panic!("{delta:?}"),
        }
    }
    assert_eq!(pieces, text_of(&whole));
}

#[tokio::test]
async fn a_failure_ends_it() {
    let failed = [said("a"), Err(LlmError::Refused("no".to_owned())), said("b")];
    for (deltas, why) in [(&failed[..], "refused: no"), (&failed[..1], "unavailable: the answer broke off")] {
        let mut host = streaming(deltas, Then::Ends).open().await;
        let stream = start_stream(&mut host, ask("x")).unwrap();
        assert_eq!(text(next(&mut host, &stream).await), "a");
        match next(&mut host, &stream).await {
            Some(Err(guest::Error::Refused(_))) => assert_eq!(why, "refused: no"),
            Some(Err(guest::Error::Denied(GuestDenied::Unavailable(_)))) => assert!(why.contains("broke off")),
            next => panic!("{next:?}"),
        }
        assert!(next(&mut host, &stream).await.is_none());
        assert_eq!((held(&host), &host.journal()[2]), ((9 + 1, 0), &format!("llm.next: {why}")));
        assert_eq!(host.tree().children[0].error.as_deref(), Some(why));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_cancellation_end_it() {
    for cancelled in [false, true] {
        let mut host = streaming(&[said("a")], Then::Hangs).open().await;
        let stream = start_stream(&mut host, ask("x")).unwrap();
        text(next(&mut host, &stream).await);
        if cancelled {
            host.cancel_after(Duration::from_secs(1));
        }
        let Some(Err(guest::Error::Denied(denied))) = next(&mut host, &stream).await else { panic!() };
        assert!(matches!((denied, cancelled), (GuestDenied::TimedOut, false) | (GuestDenied::Cancelled, true)));
        assert!(next(&mut host, &stream).await.is_none());
        assert_eq!((held(&host), host.shape().as_str()), ((9 + 1, 0), "execution open(llm.complete error())"));
    }
}

#[tokio::test]
async fn dropping_it_gives_back_at_once_what_was_neither_sent_nor_given() {
    let mut host = streaming(&[said("a")], Then::Hangs).open().await;
    let stream = start_stream(&mut host, ask("x")).unwrap();
    text(next(&mut host, &stream).await);
    let gone = Resource::<Completion>::new_own(stream.rep());
    guest::HostCompletion::drop(&mut view(&mut host), stream).unwrap();
    assert_eq!((held(&host), host.shape().as_str()), ((9 + 1, 0), "execution open(llm.complete error())"));
    assert_eq!(host.journal(), ["llm.start-stream", "llm.next"]);
    assert!(view(&mut host).next(lend(&gone)).await.is_err());
    assert!(guest::HostCompletion::drop(&mut view(&mut host), gone).is_err());
    let pending = submit(&mut host, ask("x")).unwrap();
    assert!(view(&mut host).next(Resource::new_borrow(pending.rep())).await.is_err(), "a handle of another kind");
}

/// Whoever hangs up before the end has had the answer all the same.
#[tokio::test]
async fn a_guest_that_never_reads_the_end_pays() {
    let words = "word ".repeat(60);
    let mut host = streaming(&[said(&words), Ok(Delta::Done(answer(9, 100)))], Then::Ends).open().await;
    for round in 1..=3 {
        let stream = start_stream(&mut host, ask("x")).unwrap();
        text(next(&mut host, &stream).await);
        guest::HostCompletion::drop(&mut view(&mut host), stream).unwrap();
        assert_eq!(host.used(LlmTokens), round * (9 + 100));
    }
    let report = host.finish(Outcome::Completed).await;
    let usage = &report.usage["llm"];
    assert_eq!((usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64()), (Some(27), Some(300)));
}

#[tokio::test]
async fn places_are_for_streams_that_have_not_ended() {
    let mut host = streaming(&[Ok(Delta::Done(answer(1, 1)))], Then::Ends).limit(LlmRequestsOpen, 1).open().await;
    let first = start_stream(&mut host, ask("x")).unwrap();
    assert_eq!(budget_of(&start_stream(&mut host, ask("x")).unwrap_err()), "llm_requests_open");
    next(&mut host, &first).await.unwrap().unwrap();
    start_stream(&mut host, ask("x")).unwrap();
    guest::HostCompletion::drop(&mut view(&mut host), first).unwrap();
    assert_eq!(held(&host).1, 1, "no place is given back twice");
}

#[tokio::test]
async fn a_full_table_of_handles_is_a_denial() {
    let mut host = streaming(&[], Then::Hangs).limit(Handles, 1).open().await;
    let first = start_stream(&mut host, ask("x")).unwrap();
    let before = held(&host);
    assert_eq!(budget_of(&start_stream(&mut host, ask("x")).unwrap_err()), "handles");
    assert_eq!(held(&host), before);
    guest::HostCompletion::drop(&mut view(&mut host), first).unwrap();
    start_stream(&mut host, ask("x")).unwrap();
}

/// The runtime catches such a panic and ends the execution as a host error.
#[tokio::test]
async fn a_backend_that_panics_leaves_all_in_order() {
    let mut host = streaming(&[said("a")], Then::Panics).open().await;
    let stream = start_stream(&mut host, ask("x")).unwrap();
    text(next(&mut host, &stream).await);
    assert!(std::panic::AssertUnwindSafe(next(&mut host, &stream)).catch_unwind().await.is_err());
    assert!(next(&mut host, &stream).await.is_none());
    assert_eq!((held(&host), host.shape().as_str()), ((9 + 1, 0), "execution open(llm.complete error())"));
    assert_eq!(host.tree().children[0].error.as_deref(), Some("the host failed"));
    assert_eq!(host.journal()[2], "llm.next: the host failed");
    assert_eq!(host.finish(Outcome::HostError).await.failures, Vec::<String>::new());
}
