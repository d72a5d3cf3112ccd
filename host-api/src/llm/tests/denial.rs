//! What is denied is a value, costs nothing, and asks nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

/// Every way to ask a model, each with this request, and what came of it.
async fn all_ways(host: &mut Host, request: &guest::Request) -> [Result<(), guest::Error>; 4] {
    let inputs: Vec<&str> = match request.messages.first().map(|message| message.parts.as_slice()) {
        Some([guest::Part::Text(text)]) => vec![text],
        _ => Vec::new(),
    };
    [
        complete(host, request.clone()).await.map(|_| ()),
        submit(host, request.clone()).map(|_| ()),
        start_stream(host, request.clone()).map(|_| ()),
        embed(host, &inputs).await.map(|_| ()),
    ]
}

/// An execution whose requests are counted and answered, and the count.
fn counting() -> (Fixture, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&count);
    let fixture = answering(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        future::ready(Ok(answer(1, 1)))
    });
    (fixture, count)
}

const WAYS: [&str; 4] = ["complete", "submit", "start-stream", "embed"];

#[tokio::test]
async fn what_is_not_granted() {
    let (fixture, count) = counting();
    let mut host = fixture.grants(&["llm.other", "trace"]).open().await;
    for (denied, way) in all_ways(&mut host, &ask("x")).await.iter().zip(WAYS) {
        let Err(guest::Error::Denied(GuestDenied::NotGranted(what))) = denied else { panic!("{denied:?}") };
        assert_eq!(*what, format!("llm.{way}"));
    }
    settle().await;
    assert_eq!((count.load(Ordering::Relaxed), held(&host), host.used(LlmRequests)), (0, (0, 0), 0));
    assert_eq!(host.shape(), "execution open()");
    assert_eq!(host.journal(), WAYS.map(|way| format!("llm.{way}: not granted: llm.{way}")));
}

#[tokio::test]
async fn a_grant_of_one_function_is_for_it_alone() {
    let (fixture, _) = counting();
    let mut host = fixture.grants(&["llm.embed"]).open().await;
    assert_eq!(all_ways(&mut host, &ask("x")).await.map(|result| result.is_ok()), [false, false, false, true]);
}

#[tokio::test]
async fn what_no_budget_is_left_for() {
    for (budget, limit) in [(LlmRequests, 0), (LlmRequestBytes, 2), (LlmTokens, 0), (LlmCostMicrousd, 0)] {
        let (fixture, count) = counting();
        let mut host = fixture.limit(budget, limit).open().await;
        for denied in all_ways(&mut host, &ask("four")).await {
            assert_eq!(budget_of(&denied.unwrap_err()), budget.as_str());
        }
        settle().await;
        assert_eq!(count.load(Ordering::Relaxed), 0);
        let used = (host.used(LlmRequests), host.used(LlmRequestBytes), held(&host));
        assert_eq!(used, (0, 0, (0, 0)), "{budget}: what is denied costs nothing");
        assert_eq!(host.meter().refused().map(|refused| refused.budget), Some(budget));
        assert_eq!(host.shape(), "execution open()");
        let journal = host.journal();
        assert_eq!(journal.len(), 4);
        assert!(journal.iter().zip(WAYS).all(|(line, way)| line.starts_with(&format!("llm.{way}: budget exceeded"))));
    }
}

#[tokio::test]
async fn what_makes_no_sense() {
    let (fixture, count) = counting();
    let mut host = fixture.open().await;
    let none = guest::Request { messages: Vec::new(), ..ask("") };
    let hot = guest::Request { temperature: Some(f32::INFINITY), ..ask("x") };
    for (request, field) in [(none, "messages"), (hot, "temperature")] {
        for denied in &all_ways(&mut host, &request).await[..3] {
            let Err(guest::Error::Denied(GuestDenied::Invalid(why))) = denied else { panic!("{denied:?}") };
            assert!(why.contains(field), "{why}");
        }
    }
    assert_eq!((count.load(Ordering::Relaxed), host.used(LlmRequests), held(&host)), (2, 2, (3, 0)), "the two `embed`");
    assert!(host.journal()[0].starts_with("llm.complete: invalid"), "{:?}", host.journal());
}

/// A schema that would be a tree of gigabytes is not read, whoever asks and however.
#[tokio::test]
async fn what_is_too_large_is_not_looked_at() {
    let (fixture, count) = counting();
    let mut host = fixture.open().await;
    let long = |bytes: usize| format!("{{\"a\":[0{}]}}", ",0".repeat(bytes / 2));
    let tool = |parameters_schema| guest::Tool { name: "t".to_owned(), description: String::new(), parameters_schema };
    let tools = guest::Request { tools: vec![tool(long(70_000))], ..ask("x") };
    let schema = guest::Request { response_schema: Some(long(70_000)), ..ask("x") };
    for (request, field) in [(tools, "parameters_schema"), (schema, "response_schema")] {
        for denied in &all_ways(&mut host, &request).await[..3] {
            let Err(guest::Error::Denied(GuestDenied::Invalid(why))) = denied else { panic!("{denied:?}") };
            assert!(why.starts_with(&format!("`{field}` has 70")) && why.ends_with("65536 are allowed"), "{why}");
        }
    }
    let huge = guest::Request { tools: vec![tool(long(70 << 20))], ..ask("x") };
    assert_eq!(budget_of(&complete(&mut host, huge).await.unwrap_err()), "llm_request_bytes", "before anything else");
    assert_eq!(count.load(Ordering::Relaxed), 2, "the two `embed`");

    let before = host.meter().fuel_owed();
    complete(&mut host, guest::Request { tools: vec![tool(long(60_000))], ..ask("x") }).await.unwrap();
    assert!(host.meter().fuel_owed() - before > 9 * 60_000, "what is parsed costs more than what is moved");
}

#[tokio::test]
async fn a_list_of_nothing_to_embed_is_not_free() {
    let (fixture, count) = counting();
    let mut host = fixture.limit(LlmRequestBytes, 100_000).limit(LlmTokens, 5_000).open().await;
    let many = embed(&mut host, &vec![""; 2_049]).await.unwrap_err();
    let guest::Error::Denied(GuestDenied::Invalid(why)) = many else { panic!("{many:?}") };
    assert_eq!(why, "`inputs` has 2049 texts; 2048 are allowed in one call");
    assert_eq!(budget_of(&embed(&mut host, &vec![""; 400_000]).await.unwrap_err()), "llm_request_bytes");
    assert_eq!((count.load(Ordering::Relaxed), held(&host), host.used(LlmRequests)), (0, (0, 0), 0));

    let before = host.meter().fuel_owed();
    embed(&mut host, &vec![""; 2_048]).await.unwrap();
    assert_eq!((host.used(LlmRequestBytes), host.used(LlmTokens)), (2_048 * STRING, 2_048 * 2));
    let vector = (size_of::<Vec<f32>>() + 2 * size_of::<f32>()) as u64;
    assert!(host.meter().fuel_owed() - before >= 2_048 * (STRING + vector), "the vectors are billed too");
    assert_eq!(budget_of(&embed(&mut host, &vec![""; 1_024]).await.unwrap_err()), "llm_tokens");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_passes_while_the_guest_waits() {
    let never = json!([{ "reply": { "never": true } }]);
    let mut host = scripted(&never).open().await;
    let denied = complete(&mut host, ask("x")).await.unwrap_err();
    assert!(matches!(denied, guest::Error::Denied(GuestDenied::TimedOut)), "{denied:?}");
    assert_eq!((held(&host), host.shape().as_str()), ((9, 0), "execution open(llm.complete error())"));
    assert_eq!(host.tree().children[0].error.as_deref(), Some("timed out"));

    let mut host = answering(|_| future::pending()).open().await;
    let denied = embed(&mut host, &["four"]).await.unwrap_err();
    assert!(matches!(denied, guest::Error::Denied(GuestDenied::TimedOut)), "{denied:?}");
    assert_eq!(held(&host), (4, 0));
    assert_eq!(host.journal(), ["llm.embed: timed out"]);
}

#[tokio::test(start_paused = true)]
async fn the_execution_is_cancelled_while_the_guest_waits() {
    let mut host = scripted(&json!([{ "reply": { "never": true } }])).open().await;
    host.cancel_after(Duration::from_secs(1));
    let begun = tokio::time::Instant::now();
    let denied = complete(&mut host, ask("x")).await.unwrap_err();
    assert!(matches!(denied, guest::Error::Denied(GuestDenied::Cancelled)), "{denied:?}");
    assert_eq!((begun.elapsed().as_secs(), held(&host)), (1, (9, 0)));
    assert_eq!(host.journal(), ["llm.complete: cancelled"]);
}
