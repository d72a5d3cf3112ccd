use std::time::Duration;

use serde_json::json;

use super::*;
use crate::llm::backend::{Message, Role, Tool, ToolResult};

fn router(user: &str, script: &Value) -> Arc<dyn Router> {
    let script = Arc::new(Script::from_json(&script.to_string()).unwrap());
    Arc::new(OfflineRouter::new(script, user.parse().unwrap()))
}

fn plain() -> Arc<dyn Router> {
    router("alice", &json!({ "rules": [] }))
}

fn ask(text: &str) -> Request {
    Request { messages: vec![Message::text(Role::User, text)], ..Request::default() }
}

async fn text_of(router: &Arc<dyn Router>, request: Request) -> String {
    Arc::clone(router).complete(request).await.unwrap().text()
}

#[tokio::test]
async fn an_answer_quotes_the_user_and_depends_on_the_request_alone() {
    let first = text_of(&plain(), ask("Idea: a bakery for night owls")).await;
    assert!(first.contains("'a bakery for night owls'") && first.contains("offline-1"), "{first}");
    assert_eq!(first, text_of(&router("bob", &json!({ "rules": [] })), ask("Idea: a bakery for night owls")).await);
    let warmer = Request { temperature: Some(0.7), ..ask("Idea: a bakery for night owls") };
    assert_ne!(first, text_of(&plain(), warmer).await);
}

#[tokio::test]
async fn who_answered_and_what_it_used_is_said() {
    let request = Request { tier: Some(Tier::Fast), ..ask(&"word ".repeat(100)) };
    let reserved = request.input_tokens_estimate();
    let response = plain().complete(request).await.unwrap();
    assert_eq!((response.provider.as_str(), response.model.as_str()), ("offline", "offline-fast"));
    assert_eq!(response.attempts, [attempt("offline-fast", None)]);
    assert_eq!(response.usage.cost_microusd, Some(0));
    assert!(response.usage.input_tokens >= 100 && response.usage.input_tokens <= reserved);
    assert_eq!(response.usage.output_tokens, text::output_tokens(response.text().len()));
    let named = Request { model: Some("big-one".to_owned()), tier: Some(Tier::Fast), ..ask("hi") };
    assert_eq!(plain().complete(named).await.unwrap().model, "big-one");
}

#[tokio::test]
async fn limits_cut_text_but_never_json() {
    let short = Request { max_tokens: Some(3), ..ask("hi") };
    let response = plain().complete(short).await.unwrap();
    assert_eq!((response.text().len(), response.finish_reason), (12, FinishReason::Length));
    assert_eq!(response.usage.output_tokens, 3);
    let stopped = Request { stop: vec!["'".to_owned()], ..ask("hi") };
    assert!(!text_of(&plain(), stopped).await.contains('\''));

    let schema = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#;
    let structured = |max_tokens| Request { response_schema: Some(schema.to_owned()), max_tokens, ..ask("hi") };
    let answer: Value = serde_json::from_str(&text_of(&plain(), structured(None)).await).unwrap();
    assert!(answer.get("a").is_some());
    let error = plain().complete(structured(Some(2))).await.unwrap_err();
    assert!(matches!(error, LlmError::SchemaMismatch(_)), "{error}");
}

#[tokio::test]
async fn schemas_that_make_no_sense_are_invalid() {
    let schema = Request { response_schema: Some("{".to_owned()), ..ask("hi") };
    let error = plain().complete(schema).await.unwrap_err();
    assert!(matches!(error, LlmError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn a_stream_adds_up_to_the_answer() {
    for request in [ask("Tell me about streams"), Request { response_schema: Some("{}".to_owned()), ..ask("hi") }] {
        let whole = plain().complete(request.clone()).await.unwrap();
        let deltas: Vec<Delta> = plain().stream(request).try_collect().await.unwrap();
        let text: String = deltas
            .iter()
            .filter_map(|delta| if let Delta::Text(text) = delta { Some(text.as_str()) } else { None })
            .collect();
        assert!(deltas.len() > 3, "word by word");
        assert_eq!(text, whole.text());
        assert_eq!(deltas.last(), Some(&Delta::Done(whole)));
    }
    let failed = Request { response_schema: Some("{".to_owned()), ..ask("hi") };
    let failed: Vec<_> = plain().stream(failed).collect().await;
    assert!(matches!(failed.as_slice(), [Err(LlmError::Invalid(_))]));
}

#[tokio::test]
async fn the_first_rule_whose_conditions_hold_answers() {
    let script = json!({ "rules": [
        { "when": { "user": "bob" }, "reply": { "text": "for bob" } },
        { "when": { "contains": "weather", "tier": "quality" }, "reply": { "text": "quality weather" } },
        {
            "when": { "contains": "weather" },
            "reply": { "text": "sunny" },
            "usage": { "output_tokens": 9, "cost_microusd": 1500 },
        },
        { "when": { "system_contains": "terse", "model": "offline-1" }, "reply": { "text": "yes" } },
    ] });
    let alice = router("alice", &script);
    let response = Arc::clone(&alice).complete(ask("the weather?")).await.unwrap();
    assert_eq!((response.text().as_str(), response.usage.output_tokens), ("sunny", 9));
    assert_eq!(response.usage.cost_microusd, Some(1500));
    assert!(response.usage.input_tokens > 0, "what is not scripted is estimated");
    assert_eq!(text_of(&router("bob", &script), ask("the weather?")).await, "for bob");
    let better = Request { tier: Some(Tier::Quality), ..ask("the weather?") };
    assert_eq!(text_of(&alice, better).await, "quality weather");
    let mut terse = ask("well?");
    terse.messages.insert(0, Message::text(Role::System, "Be terse."));
    assert_eq!(text_of(&alice, terse).await, "yes");
    assert!(text_of(&alice, ask("something else")).await.contains("'something else'"));
}

#[tokio::test]
async fn tools_are_called_by_a_script_and_answered_after_their_results() {
    let scripted_call = json!({ "name": "weather", "arguments": { "city": "Bern" } });
    let script = json!({ "rules": [
        { "when": { "tool_result_contains": "21" }, "reply": { "text": "It is 21 degrees." } },
        { "when": { "contains": "weather" }, "reply": { "tool_calls": [scripted_call] } },
    ] });
    let tool = Tool { name: "weather".to_owned(), description: String::new(), parameters_schema: "{}".to_owned() };
    let mut request = Request { tools: vec![tool], ..ask("the weather?") };
    assert!(plain().complete(request.clone()).await.unwrap().text().len() > 10, "without a script it is text");
    let router = router("alice", &script);
    let response = Arc::clone(&router).complete(request.clone()).await.unwrap();
    assert_eq!(response.finish_reason, FinishReason::ToolCalls);
    let [Part::ToolCall(call)] = response.parts.as_slice() else { panic!("{:?}", response.parts) };
    assert_eq!((call.name.as_str(), call.arguments.as_str()), ("weather", r#"{"city":"Bern"}"#));
    let deltas: Vec<Delta> = Arc::clone(&router).stream(request.clone()).try_collect().await.unwrap();
    assert_eq!(deltas, [Delta::ToolCall(call.clone()), Delta::Done(response.clone())]);

    let result = ToolResult { call_id: call.id.clone(), content: "21 °C".to_owned(), is_error: false };
    request.messages.push(Message { role: Role::Assistant, parts: response.parts.clone() });
    request.messages.push(Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] });
    assert_eq!(text_of(&router, request).await, "It is 21 degrees.");
}

#[tokio::test]
async fn a_scripted_answer_has_to_match_the_schema_too() {
    let script = json!({ "rules": [
        { "when": { "contains": "good" }, "reply": { "json": { "score": 7 } } },
        { "when": { "contains": "text" }, "reply": { "text": " {\"score\": 8} " } },
        { "reply": { "json": { "score": "high" } } },
    ] });
    let router = router("alice", &script);
    let schema = r#"{"type":"object","properties":{"score":{"type":"integer"}},"required":["score"]}"#;
    let structured = |text| Request { response_schema: Some(schema.to_owned()), ..ask(text) };
    assert_eq!(text_of(&router, structured("good")).await, r#"{"score":7}"#);
    assert_eq!(text_of(&router, structured("text")).await, " {\"score\": 8} ");
    let error = Arc::clone(&router).complete(structured("bad")).await.unwrap_err().to_string();
    assert!(error.contains("at /score"), "{error}");
    assert_eq!(text_of(&router, ask("bad")).await, r#"{"score":"high"}"#, "no schema, no check");
}

#[tokio::test]
async fn scripted_errors_are_what_they_say() {
    let rule =
        |kind: &str| json!({ "when": { "contains": kind }, "reply": { "error": { "kind": kind, "message": "so" } } });
    let kinds = ["refused", "unavailable", "no_provider", "schema_mismatch", "all_failed"];
    let router = router("alice", &json!({ "rules": kinds.map(rule) }));
    let mut errors = Vec::new();
    for kind in kinds {
        errors.push(Arc::clone(&router).complete(ask(kind)).await.unwrap_err());
    }
    let attempts = vec![Attempt { failure: Some("so".to_owned()), ..attempt("offline-1", None) }];
    let so = || "so".to_owned();
    let expected = [
        LlmError::Refused(so()),
        LlmError::Unavailable(so()),
        LlmError::NoProvider(so()),
        LlmError::SchemaMismatch(so()),
        LlmError::AllFailed(attempts),
    ];
    assert_eq!(errors, expected);
}

#[tokio::test(start_paused = true)]
async fn delays_take_their_time_and_never_is_never() {
    let script = json!({ "rules": [
        { "when": { "contains": "slow" }, "reply": { "text": "done" }, "delay_ms": 5000 },
        { "when": { "contains": "hang" }, "reply": { "never": true } },
    ] });
    let router = router("alice", &script);
    let started = tokio::time::Instant::now();
    let response = Arc::clone(&router).complete(ask("slow")).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(response.attempts, [Attempt { latency_ms: 5000, ..attempt("offline-1", None) }]);
    let hanging = tokio::time::timeout(Duration::from_secs(86_400), Arc::clone(&router).complete(ask("hang")));
    assert!(hanging.await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(86_400), router.stream(ask("hang")).next()).await.is_err());
}

#[tokio::test]
async fn every_input_gets_its_vector() {
    let inputs = ["a bakery", "a bakery", "tax returns"].map(str::to_owned).to_vec();
    let vectors = plain().embed(None, inputs).await.unwrap().vectors;
    assert_eq!(vectors.len(), 3);
    assert_eq!(vectors.first(), vectors.get(1));
    assert_ne!(vectors.first(), vectors.get(2));
    assert!(plain().embed(None, Vec::new()).await.unwrap().vectors.is_empty());
}
