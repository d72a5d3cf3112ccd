//! Nothing of one execution is in another, and nothing is left after it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use holm_host_api::Outcome;
use holm_runtime::{ExecutionRequest, Runtime};
use serde_json::{Value, json};

use crate::support::{Host, name, output};

/// A caller's token may be a whole server's.
#[tokio::test]
async fn a_cancelled_execution_leaves_the_callers_own_token_alone() {
    let host = Host::new();
    let mut request = host.request(json!({ "do": "sleep_forever" }));
    let server = tokio_util::sync::CancellationToken::new();
    request.cancellation = server.clone();
    let (user, id) = (request.user.clone(), request.execution);
    let given_up = tokio::time::timeout(Duration::from_millis(50), host.runtime.execute(request.clone())).await;
    assert!(given_up.is_err());
    host.assert_nothing_held().await;
    request.execution = uuid::Uuid::now_v7();
    let (second, cancelled) = (request.execution, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!host.runtime.cancel(&user, id), "it is gone");
        assert!(host.runtime.cancel(&user, request.execution));
    });
    let (execution, ()) = tokio::join!(host.runtime.execute(request.clone()), cancelled);
    assert_eq!((execution.record.execution, execution.record.outcome), (second, Outcome::Cancelled));
    assert!(!server.is_cancelled());
}

/// The pool has a number of memories for all: who needs many waits for them, and others get on with few.
#[tokio::test]
async fn workloads_with_many_memories_wait_for_them() {
    let host = Host::new();
    let modules: String =
        (0..15).map(|n| format!("(core module $m{n} (memory 1)) (core instance (instantiate $m{n}))")).collect();
    let text = format!(
        r#"(component {modules}
          (core module $m (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
            (func (export "run") (param i32 i32) (result i32) (i32.const 16)))
          (core instance $i (instantiate $m))
          (func (export "run") (param "input" string) (result (result string (error string)))
            (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))"#
    );
    let workload = host.runtime.intake(text.as_bytes()).unwrap();
    let runtime = Runtime::builder().executions_max(4).build().unwrap();
    let requests = (0..40).map(|_| runtime.execute(ExecutionRequest::new(name("alice"), workload.clone())));
    for execution in futures::future::join_all(requests).await {
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    }
}

#[tokio::test]
async fn of_three_side_by_side_one_fails_and_two_are_untouched() {
    let host = Host::new();
    for failure in [json!({ "do": "unreachable" }), json!({ "do": "fail" }), json!({ "do": "grow" })] {
        let (left, failed, right) = tokio::join!(
            host.act(json!({ "do": "sequence", "steps": [{ "do": "sleep", "ms": 20 }, { "do": "counter" }] })),
            host.act(failure),
            host.act(json!({ "do": "sequence", "steps": [{ "do": "counter" }, { "do": "sleep", "ms": 20 }] })),
        );
        assert_ne!(failed.record.outcome, Outcome::Completed);
        assert_eq!(output(&left)[1], 1);
        assert_eq!(output(&right)[0], 1);
        host.assert_nothing_held().await;
    }
}

#[tokio::test]
async fn state_of_one_execution_is_absent_in_the_next() {
    let host = Host::with(|builder| builder.executions_max(1));
    for _ in 0..20 {
        let counted = host.act(json!({ "do": "sequence", "steps": [{ "do": "counter" }, { "do": "counter" }] })).await;
        assert_eq!(output(&counted), json!([1, 2]));
        // A pool of one gives every execution the same slot; endings of every kind leave it clean.
        host.act(json!({ "do": "sequence", "steps": [{ "do": "counter" }, { "do": "unreachable" }] })).await;
    }
    host.assert_nothing_held().await;
}

#[tokio::test]
async fn memory_of_one_execution_is_zero_in_the_next() {
    let host = Host::with(|builder| builder.executions_max(1));
    // Fills its memory beyond the part that the pool keeps resident, or looks for what is not zero.
    let text = crate::support::workload(
        "",
        r#"(local $at i32)
        (drop (memory.grow (i32.const 63)))
        (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 119)) (then
          (memory.fill (i32.const 4096) (i32.const 170) (i32.const 4190208))
          (unreachable)))
        (local.set $at (i32.const 4096))
        (loop $look
          (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (unreachable)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $look (i32.lt_u (local.get $at) (i32.const 4194304))))
        (i32.store (i32.const 8) (i32.const 0)) (i32.const 0)"#,
    );
    let workload = host.text(&text);
    for _ in 0..10 {
        for (input, outcome) in [("write", Outcome::Trapped), ("read", Outcome::Completed)] {
            let request = holm_runtime::ExecutionRequest::new(name("alice"), workload.clone()).input(input);
            assert_eq!(host.runtime.execute(request).await.record.outcome, outcome, "{input}");
        }
    }
}

/// Each with an input, a configuration and a model of its own, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_executions_of_twenty_users_see_nothing_of_each_other() {
    let rules: Vec<_> = (0..20)
        .map(|user| json!({ "when": { "user": format!("user-{user}") }, "reply": { "text": format!("answer for user-{user}") } }))
        .collect();
    let host = Host::scripted(&json!({ "rules": rules }));
    let probe = host.probe();
    let executions = (0..100).map(|number| {
        let user = format!("user-{}", number % 20);
        let action = json!({ "do": "sequence", "steps": [
            { "do": "identity" },
            { "do": "config", "key": "mine" },
            { "do": "publish", "name": "same-name", "value": user },
            { "do": "llm", "prompt": format!("question {number}") },
            { "do": "emit", "kind": "mine", "payload": number },
            { "do": "echo", "value": number },
            { "do": "counter" },
        ]});
        let mut request = holm_runtime::ExecutionRequest::new(name(&user), probe.clone()).input(action.to_string());
        request.config = BTreeMap::from([("mine".to_owned(), format!("config {number}"))]).into();
        let host = &host;
        async move {
            let id = request.execution;
            let execution = host.runtime.execute(request).await;
            let out = output(&execution);
            assert_eq!(out[0]["user"], user);
            assert_eq!(out[0]["execution"], id.to_string());
            assert_eq!(out[1], format!("config {number}"));
            let reference = out[2].as_str().unwrap();
            assert!(reference.starts_with(&format!("holm:///{user}/default/object/same-name:")), "{reference}");
            assert_eq!(out[3]["text"], format!("answer for {user}"), "{}", out[3]);
            assert_eq!((&out[5], &out[6]), (&json!(number), &json!(1)));
            let events = serde_json::to_value(host.events.take(id)).unwrap();
            assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
            assert_eq!(events[0]["payload"], number.to_string());
            let tree = serde_json::to_value(host.trace.tree(id).unwrap()).unwrap().to_string();
            assert!(
                tree.contains(&format!("question {number}")) && !tree.contains(&format!("question {}\"", number + 1))
            );
            reference.to_owned()
        }
    });
    let references = join_all(executions).await;
    host.assert_nothing_held().await;

    // An object of another user's does not exist, whoever knows its reference.
    let asked = host.act(json!({ "do": "catch", "step": { "do": "resolve", "reference": references[0] } })).await;
    let answer: Value = output(&asked);
    assert!(answer["err"].as_str().unwrap().contains("does not exist"), "{answer}");
}
