//! Requests that are under way at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::BudgetName::Handles;
use crate::HostError;

/// Requests are answered after as many seconds as they say, and `never` never is.
fn slow() -> Fixture {
    scripted(&json!([
        { "when": { "contains": "never" }, "reply": { "never": true } },
        { "when": { "contains": "1 s" }, "reply": { "text": "one" }, "delay_ms": 1_000 },
        { "when": { "contains": "2 s" }, "reply": { "text": "two" }, "delay_ms": 2_000 },
        { "when": { "contains": "fail" }, "reply": { "error": { "kind": "refused", "message": "no" } } },
    ]))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_there_once() {
    let mut host = slow().open().await;
    let begun = tokio::time::Instant::now();
    let (two, one) = (submit(&mut host, ask("2 s")).unwrap(), submit(&mut host, ask("1 s")).unwrap());
    assert!(get(&mut host, &one).is_none() && get(&mut host, &two).is_none());
    assert_eq!(wait(&mut host, &[&two, &one], None).await.unwrap(), [1]);
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert_eq!(text_of(&get(&mut host, &one).unwrap().unwrap()), "one");
    assert!(get(&mut host, &one).is_none() && get(&mut host, &one).is_none());
    assert_eq!(wait(&mut host, &[&two], None).await.unwrap(), [0]);
    assert_eq!(begun.elapsed().as_secs(), 2, "both were under way at once");
    assert_eq!(text_of(&get(&mut host, &two).unwrap().unwrap()), "two");
    assert_eq!(host.shape(), "execution open(llm.complete ok(), llm.complete ok())");
    let (entries, _) = host.state.gate().journal().unwrap().entries();
    let shown = |entry: &crate::JournalEntry| (entry.function, entry.result.clone().unwrap());
    let journal: Vec<_> = entries.iter().map(shown).collect();
    let none = |function| (function, Value::Null);
    assert_eq!(journal[..5], [none("submit"), none("submit"), none("get"), none("get"), ("wait", json!([1]))]);
    assert_eq!(journal[5].1.pointer("/parts/0/text"), Some(&json!("one")), "what the guest got of its handle");
    assert_eq!(journal[6..9], [none("get"), none("get"), ("wait", json!([0]))]);
}

#[tokio::test(start_paused = true)]
async fn waiting_gives_all_that_are_ready() {
    let mut host = slow().open().await;
    let [a, b, c] = ["1 s", "never", "fail"].map(|text| submit(&mut host, ask(text)).unwrap());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(wait(&mut host, &[&b, &a, &c, &a], None).await.unwrap(), [1, 2, 3]);
    let Some(Err(guest::Error::Refused(why))) = get(&mut host, &c) else { panic!() };
    assert_eq!(why, "no");
    get(&mut host, &a).unwrap().unwrap();
    assert_eq!(wait(&mut host, &[&a], None).await.unwrap(), [0], "a fetched answer was there all the same");
    assert_eq!(host.shape(), "execution open(llm.complete ok(), llm.complete open(), llm.complete error())");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_time_that_was_given() {
    let mut host = slow().open().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(wait(&mut host, &[], None).await.unwrap(), Vec::<u32>::new(), "nothing to wait for");
    assert_eq!(wait(&mut host, &[], Some(5_000)).await.unwrap(), Vec::<u32>::new());
    let never = submit(&mut host, ask("never")).unwrap();
    assert_eq!(wait(&mut host, &[&never], Some(0)).await.unwrap(), Vec::<u32>::new());
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert_eq!(wait(&mut host, &[&never], Some(500)).await.unwrap(), Vec::<u32>::new());
    assert!(begun.elapsed() < Duration::from_millis(600));
    let one = submit(&mut host, ask("1 s")).unwrap();
    assert_eq!(wait(&mut host, &[&never, &one], Some(u64::MAX)).await.unwrap(), [1]);
    assert!(begun.elapsed() < Duration::from_millis(1_700));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_cancellation_end_the_waiting_and_the_requests() {
    for cancelled in [false, true] {
        let mut host = slow().open().await;
        let never = submit(&mut host, ask("never")).unwrap();
        if cancelled {
            host.cancel_after(Duration::from_secs(1));
        }
        let waited = wait(&mut host, &[&never], Some(u64::MAX)).await;
        settle().await;
        let got = get(&mut host, &never);
        let Some(Err(guest::Error::Denied(denied))) = got else { panic!("{got:?}") };
        // The request ends at the same time: whichever is seen first is told.
        for denied in waited.err().iter().chain([&denied]) {
            match denied {
                GuestDenied::Cancelled => assert!(cancelled),
                GuestDenied::TimedOut => assert!(!cancelled),
                denied => panic!("{denied:?}"),
            }
        }
        assert_eq!((host.used(LlmTokens), host.shape().as_str()), (10, "execution open(llm.complete error())"));
    }
}

#[tokio::test]
async fn dropping_cancels_and_gives_back_what_was_not_sent() {
    let mut host = slow().open().await;
    let running = submit(&mut host, ask("never")).unwrap();
    settle().await;
    let unstarted = submit(&mut host, ask("never")).unwrap();
    let (tokens, places) = held(&host);
    assert!(tokens > 2 * 4096 && places == 2);
    drop_pending(&mut host, running);
    drop_pending(&mut host, unstarted);
    assert_eq!(host.used(LlmRequestsOpen), 0, "places are free at once");
    settle().await;
    assert_eq!(held(&host), (10, 0), "the input of the one that was sent");
    assert_eq!(host.shape(), "execution open(llm.complete error(), llm.complete error())");
    assert!(host.tree().children.iter().all(|call| call.error.as_deref() == Some("cancelled")));
    assert_eq!(host.journal(), ["llm.submit", "llm.submit"], "the guest never asked for more");
}

#[tokio::test]
async fn an_answer_that_nobody_fetches_is_paid_for() {
    let mut host = answering(async |_| Ok(answer(2, 3))).open().await;
    let pending = submit(&mut host, ask("x")).unwrap();
    settle().await;
    assert_eq!(held(&host), (5, 1));
    drop_pending(&mut host, pending);
    assert_eq!((held(&host), host.shape().as_str()), ((5, 0), "execution open(llm.complete ok())"));
}

#[tokio::test]
async fn places_are_for_requests_whose_answers_were_not_fetched() {
    let mut host = slow().limit(LlmRequestsOpen, 2).open().await;
    let failing = submit(&mut host, ask("fail")).unwrap();
    let never = submit(&mut host, ask("never")).unwrap();
    let tokens = host.used(LlmTokens);
    let Err(guest::Error::Denied(GuestDenied::Exhausted(denied))) = submit(&mut host, ask("x")) else { panic!() };
    assert_eq!((denied.budget.as_str(), denied.limit, denied.used), ("llm_requests_open", 2, 2));
    assert_eq!(budget_of(&start_stream(&mut host, ask("x")).unwrap_err()), "llm_requests_open");
    assert_eq!((host.used(LlmTokens), host.used(LlmRequests)), (tokens, 2), "what is denied costs nothing");
    settle().await;
    assert_eq!(budget_of(&submit(&mut host, ask("x")).unwrap_err()), "llm_requests_open", "an answer keeps its place");
    get(&mut host, &failing).unwrap().unwrap_err();
    let third = submit(&mut host, ask("never")).unwrap();
    drop_pending(&mut host, never);
    submit(&mut host, ask("never")).unwrap();
    drop_pending(&mut host, failing);
    assert_eq!(host.used(LlmRequestsOpen), 2, "no place is given back twice");
    drop_pending(&mut host, third);
    let denied = host.journal().iter().filter(|line| line.contains("llm_requests_open, limit 2")).count();
    assert_eq!(denied, 3, "{:?}", host.journal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_handle_is_not_sent() {
    let asked = Arc::<AtomicU64>::default();
    let count = Arc::clone(&asked);
    let fixture = answering(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        future::ready(Ok(answer(1, 1)))
    });
    let mut host = fixture.limit(Handles, 1).open().await;
    let first = submit(&mut host, ask("x")).unwrap();
    wait(&mut host, &[&first], None).await.unwrap();
    for _ in 0..20 {
        assert_eq!(budget_of(&submit(&mut host, ask("x")).unwrap_err()), "handles");
        assert_eq!(budget_of(&start_stream(&mut host, ask("x")).unwrap_err()), "handles");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((asked.load(Ordering::Relaxed), held(&host), host.used(LlmRequests)), (1, (2, 1), 1));
    assert_eq!(host.shape(), "execution open(llm.complete ok())");
    assert_eq!(host.journal()[2], "llm.submit: budget exceeded: handles, limit 1, used 1");
    assert_eq!(host.journal()[3], "llm.start-stream: budget exceeded: handles, limit 1, used 1");
    drop_pending(&mut host, first);
    submit(&mut host, ask("x")).unwrap();
}

#[tokio::test]
async fn a_backend_that_panics_is_a_host_error() {
    let mut host = answering(async |request: Request| match request.last_user_text().as_str() {
        "fine" => Ok(answer(1, 1)),
        _ => panic!("a panic that belongs to this test"),
    })
    .open()
    .await;
    let (bad, fine) = (submit(&mut host, ask("x")).unwrap(), submit(&mut host, ask("fine")).unwrap());
    assert_eq!(wait(&mut host, &[&bad], None).await.unwrap(), [0]);
    let trap = view(&mut host).get(lend(&bad)).unwrap_err();
    let error = trap.downcast_ref::<HostError>().unwrap();
    assert_eq!(error.message(), "the host failed while it asked a language model");
    wait(&mut host, &[&fine], None).await.unwrap();
    get(&mut host, &fine).unwrap().unwrap();
    assert_eq!(host.used(LlmTokens), 9 + 2);
    assert_eq!(host.shape(), "execution open(llm.complete error(), llm.complete ok())");
    assert_eq!(host.tree().children[0].error.as_deref(), Some("the host failed"));
    assert_eq!(host.journal()[3], "llm.get: the host failed while it asked a language model");
    assert_eq!(host.finish(Outcome::HostError).await.failures, Vec::<String>::new());
}

#[tokio::test]
async fn a_handle_that_is_not_there_traps() {
    let mut host = slow().open().await;
    let pending = submit(&mut host, ask("never")).unwrap();
    let gone = Resource::<PendingAnswer>::new_own(pending.rep());
    drop_pending(&mut host, pending);
    let mut view = view(&mut host);
    assert!(view.get(lend(&gone)).is_err());
    assert!(view.wait(vec![lend(&gone)], None).await.is_err());
    assert!(guest::HostPending::drop(&mut view, gone).is_err());
    let stream = view.start_stream(ask("x")).unwrap().unwrap();
    assert!(view.get(Resource::new_borrow(stream.rep())).is_err(), "a handle of another kind");
    assert!(view.wait(vec![Resource::new_borrow(stream.rep())], Some(0)).await.is_err());
}

#[tokio::test]
async fn the_end_of_the_execution_stops_what_is_under_way() {
    let mut host = slow().open().await;
    let _pending = submit(&mut host, ask("never")).unwrap();
    let _stream = start_stream(&mut host, ask("never")).unwrap();
    settle().await;
    let report = host.finish(Outcome::Completed).await;
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.usage["llm"]["requests"], 2);
    assert_eq!(host.shape(), "execution ok(llm.complete error(), llm.complete error())");
    assert_eq!((report.usage["llm"]["input_tokens"].as_u64(), host.used(LlmTokens)), (Some(20), 20));
    let meter = host.meter();
    drop(host);
    assert_eq!((meter.used(LlmTokens), meter.used(LlmRequestsOpen)), (20, 0));
}

#[tokio::test]
async fn a_long_list_to_wait_for_costs_fuel() {
    let mut host = slow().open().await;
    let failing = submit(&mut host, ask("fail")).unwrap();
    settle().await;
    let before = host.meter().fuel_owed();
    wait(&mut host, &[&failing; 60], None).await.unwrap();
    assert!(host.meter().fuel_owed() - before >= 60 * 500);
}

/// There cannot be more requests under way, and to wait for one a million times would cost the host a gigabyte.
#[tokio::test]
async fn a_list_longer_than_the_requests_that_may_be_open_is_refused() {
    let mut host = slow().limit(LlmRequestsOpen, 3).open().await;
    let failing = submit(&mut host, ask("fail")).unwrap();
    assert_eq!(wait(&mut host, &[&failing; 3], None).await.unwrap(), [0, 1, 2]);
    for length in [4, 100_000] {
        let denied = wait(&mut host, &vec![&failing; length], None).await.unwrap_err();
        let GuestDenied::Invalid(why) = denied else { panic!("{denied:?}") };
        assert_eq!(why, format!("the list has {length} requests; 3 may be open at once (`llm_requests_open`)"));
    }
    assert!(host.journal()[2].starts_with("llm.wait: invalid: the list has 4"));
}
