//! What guests see of each capability.

use holm_host_api::events::EventKind;
use holm_host_api::trace::CallTree;
use holm_host_api::{Budget, BudgetName, Grant, Grants, Outcome};
use serde_json::{Value, json};

use crate::support::{Host, name, output};

async fn tree(host: &Host, action: Value) -> (CallTree, holm_runtime::Execution) {
    let request = host.request(action);
    let id = request.execution;
    let execution = host.runtime.execute(request).await;
    (host.trace.tree(id).unwrap(), execution)
}

fn shape(tree: &CallTree) -> Value {
    let tree = serde_json::to_value(tree).unwrap();
    fn short(call: &Value) -> Value {
        let children: Vec<_> = call["children"].as_array().into_iter().flatten().map(short).collect();
        json!([call["operation"], call["status"], children])
    }
    short(&tree)
}

#[tokio::test]
async fn identity_comes_from_the_host() {
    let host = Host::new();
    let mut request = host.request(json!({ "do": "identity" }));
    request.session = Some(name("s1"));
    let identity = output(&host.runtime.execute(request.clone()).await);
    assert_eq!(identity["user"], "alice");
    assert_eq!(identity["session"], "s1");
    assert_eq!(identity["program"], Value::Null);
    assert_eq!(identity["execution"], request.execution.to_string());
    assert_eq!(identity["workload"], host.probe().digest().to_string());
}

#[tokio::test]
async fn remaining_goes_down() {
    let host = Host::new();
    let steps = json!({ "do": "sequence", "steps": [
        { "do": "remaining" }, { "do": "host_call_loop", "count": 1000 }, { "do": "llm", "prompt": "hello" }, { "do": "remaining" },
    ]});
    let out = output(&host.act(steps).await);
    for budget in ["fuel", "host_calls", "llm_tokens"] {
        assert!(out[3][budget].as_u64() < out[0][budget].as_u64(), "{budget}: {out}");
    }
}

#[tokio::test]
async fn events_arrive_in_order_with_the_log() {
    let host = Host::new();
    let request = host.request(json!({ "do": "sequence", "steps": [
        { "do": "progress", "done": 1, "total": 2, "message": "half" },
        { "do": "log", "level": "warn", "message": "careful" },
        { "do": "emit", "kind": "mine", "payload": { "a": 1 } },
        { "do": "print", "text": "printed" },
    ]}));
    let id = request.execution;
    host.runtime.execute(request).await;
    let events = host.events.take(id);
    assert!(events.iter().map(|event| event.sequence).eq(0..events.len() as u64));
    let kinds: Vec<_> = events.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds[0], EventKind::Progress { done: 1, total: Some(2), message: "half".into() });
    assert!(matches!(&kinds[1], EventKind::Log { message, .. } if message == "careful"));
    assert_eq!(kinds[2], EventKind::Event { kind: "mine".into(), payload: "{\"a\":1}".into() });
    assert!(matches!(&kinds[3], EventKind::Log { message, .. } if message == "printed"));
}

#[tokio::test]
async fn model_calls_are_children_of_the_current_trace_call_by_themselves() {
    let host = Host::new();
    let ask = json!({ "do": "llm", "prompt": "hello" });
    let action = json!({ "do": "sequence", "steps": [
        { "do": "call", "operation": "outer", "inputs": {}, "step": { "do": "call", "operation": "inner", "inputs": {}, "step": ask } },
        ask,
    ]});
    let (tree, execution) = tree(&host, action).await;
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    let llm = json!(["llm.complete", "ok", []]);
    assert_eq!(shape(&tree), json!(["execution", "ok", [["outer", "ok", [["inner", "ok", [llm]]]], llm]]));
    let text = serde_json::to_string(&tree).unwrap();
    assert!(text.contains("input_tokens") && text.contains("hello"), "{text}");
}

#[tokio::test]
async fn calls_that_nobody_finished_say_so() {
    let host = Host::new();
    let (abandoned, _) = tree(&host, json!({ "do": "abandon", "operation": "dropped" })).await;
    assert_eq!(shape(&abandoned)[2], json!([["dropped", "abandoned", []]]));
    let action =
        json!({ "do": "sequence", "steps": [{ "do": "leave_open", "operation": "open" }, { "do": "unreachable" }] });
    let (trapped, _) = tree(&host, action).await;
    assert_eq!(shape(&trapped), json!(["execution", "trapped", [["open", "trapped", []]]]));
}

#[tokio::test]
async fn objects_have_one_reference_for_one_content() {
    let host = Host::new();
    let publish = |value: Value| json!({ "do": "publish", "name": "thing", "value": value });
    let out = output(
        &host
            .act(json!({ "do": "sequence", "steps": [publish(json!({ "a": 1, "b": 2 })), publish(json!({ "b": 2, "a": 1 })), publish(json!(2))] }))
            .await,
    );
    assert_eq!(out[0], out[1]);
    assert_ne!(out[0], out[2]);
    let resolved = output(&host.act(json!({ "do": "resolve", "reference": out[0] })).await);
    assert_eq!(resolved, json!({ "a": 1, "b": 2 }));
}

#[tokio::test]
async fn requests_at_once_are_under_way_at_once() {
    let host = Host::scripted(&json!({ "rules": [{ "when": {}, "reply": { "text": "late" }, "delay_ms": 300 }] }));
    let many = json!({ "do": "llm_many", "prompt": "{i}", "count": 20 });
    let execution = host.act(many).await;
    assert_eq!(output(&execution)["answers"].as_array().unwrap().len(), 20);
    let wall_ms = execution.record.usage.get("wall_ms").unwrap();
    assert!(wall_ms < 20 * 300 / 2, "one after the other would take 6000 ms, this took {wall_ms}");
    assert_eq!(execution.record.usage.get("llm_requests_open"), Some(20));
}

#[tokio::test]
async fn answers_obey_a_schema_and_come_in_pieces() {
    let host = Host::new();
    let schema = json!({ "type": "object", "required": ["score"], "properties": { "score": { "type": "integer", "minimum": 1, "maximum": 5 } } });
    let answer = output(&host.act(json!({ "do": "llm_json", "prompt": "rate it", "schema": schema })).await);
    assert!((1..=5).contains(&answer["score"].as_i64().unwrap()), "{answer}");
    let whole = output(&host.act(json!({ "do": "llm", "prompt": "tell me" })).await);
    let streamed = output(&host.act(json!({ "do": "llm_stream", "prompt": "tell me" })).await);
    assert!(streamed.to_string().contains(whole["text"].as_str().unwrap()), "{streamed} against {whole}");
    let vectors = output(&host.act(json!({ "do": "embed", "inputs": ["a", "b"] })).await);
    assert!(!vectors.is_null());
}

#[tokio::test]
async fn what_is_not_granted_is_a_value() {
    let host = Host::new();
    let all_but_embed = ["events", "trace", "llm.complete", "execution"].map(|grant| grant.parse::<Grant>().unwrap());
    let request = host.request(json!({ "do": "sequence", "steps": [
        { "do": "llm", "prompt": "hello" },
        { "do": "catch", "step": { "do": "embed", "inputs": ["a"] } },
    ]}));
    let execution = host.runtime.execute(request.grants(Grants::from_iter(all_but_embed))).await;
    assert_eq!(output(&execution)[1]["err"], "not granted: llm.embed");
}

#[tokio::test]
async fn a_model_that_never_answers_ends_at_the_deadline_or_with_the_cancellation() {
    let host = Host::scripted(&json!({ "rules": [{ "when": {}, "reply": { "never": true } }] }));
    let request = host.request(json!({ "do": "catch", "step": { "do": "llm", "prompt": "?" } }));
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        request.cancellation.cancel();
    };
    let (execution, ()) = tokio::join!(host.runtime.execute(request.clone()), stop);
    assert_eq!(execution.record.outcome, Outcome::Cancelled);
    assert!(String::from_utf8_lossy(&execution.output).contains("cancelled"), "the guest heard of it and returned");
    host.assert_nothing_held().await;
}

/// A guest that fails because its time ran out inside a host call failed of that, and not of itself.
#[tokio::test]
async fn time_that_runs_out_in_a_host_call_is_named() {
    let host = Host::scripted(&json!({ "rules": [{ "when": {}, "reply": { "never": true } }] }));
    let budget = Budget::default().with(BudgetName::WallMs, 200);
    let request = host.request(json!({ "do": "llm", "prompt": "?" })).budget(budget);
    let execution = host.runtime.execute(request).await;
    let Outcome::BudgetExceeded(exhausted) = execution.record.outcome else { panic!("{:?}", execution.record) };
    assert_eq!((exhausted.budget, exhausted.limit), (BudgetName::WallMs, 200));
    assert!(exhausted.used >= 200, "{exhausted}");
    host.assert_nothing_held().await;
}

#[tokio::test]
async fn the_journal_keeps_the_calls_in_order() {
    let host = Host::new();
    let mut request = host.request(json!({ "do": "sequence", "steps": [
        { "do": "emit", "kind": "a", "payload": 1 }, { "do": "llm", "prompt": "hello" }, { "do": "publish", "name": "x", "value": 1 },
    ]}));
    request.journal_entries_max = 100;
    let execution = host.runtime.execute(request).await;
    let calls: Vec<_> =
        execution.journal.iter().map(|entry| format!("{}.{}", entry.capability, entry.function)).collect();
    assert_eq!(calls, ["events.emit", "llm.complete", "trace.publish"]);
    assert!(execution.journal.iter().all(|entry| entry.result.is_ok()));
}

/// All that a replay has to answer is there, in the order in which the guest asked.
#[tokio::test]
async fn the_journal_has_what_handles_gave_and_what_needs_no_grant() {
    let host = Host::new();
    let mut request = host.request(json!({ "do": "sequence", "steps": [
        { "do": "identity" }, { "do": "llm_many", "prompt": "{i}", "count": 2 }, { "do": "llm_stream", "prompt": "hello" },
    ]}));
    request.journal_entries_max = 1_000;
    let execution = host.runtime.execute(request).await;
    let calls: Vec<_> =
        execution.journal.iter().map(|entry| format!("{}.{}", entry.capability, entry.function)).collect();
    assert_eq!(calls[..4], ["execution.get-identity", "llm.submit", "llm.submit", "llm.wait"]);
    let result = |name: &str| {
        let at = calls.iter().rposition(|call| call == name).unwrap_or_else(|| panic!("{name} in {calls:?}"));
        execution.journal[at].result.clone().unwrap()
    };
    assert_eq!(result("execution.get-identity")["user"], "alice");
    assert!(result("llm.wait").is_array());
    assert_eq!(result("llm.get")["provider"], "offline");
    assert_eq!(result("llm.start-stream"), Value::Null);
    assert_eq!(result("llm.next")["done"]["provider"], "offline");
}
