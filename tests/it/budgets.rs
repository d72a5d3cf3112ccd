//! Every budget is enforced and named, and `usage` says what was used.

use holm_host_api::{Budget, BudgetName, Outcome};
use serde_json::{Value, json};

use crate::support::{Host, exceeded, output};

/// An action, a limit that it passes, and whether the guest could have gone on.
fn cases() -> Vec<(BudgetName, u64, Value)> {
    let flood = |action: &str| json!({ "do": action });
    vec![
        (BudgetName::Fuel, 5_000_000, flood("spin")),
        (BudgetName::WallMs, 100, flood("sleep_forever")),
        (BudgetName::MemoryBytes, 8 << 20, flood("grow")),
        (BudgetName::TableElements, 4, json!({ "do": "echo" })),
        (BudgetName::Instances, 1, json!({ "do": "echo" })),
        (BudgetName::Handles, 10, json!({ "do": "pending_flood" })),
        (BudgetName::HostCalls, 1_000, json!({ "do": "host_call_loop", "count": 100_000 })),
        (BudgetName::OutputBytes, 1_000, json!({ "do": "big_output", "bytes": 2_000 })),
        (BudgetName::LogBytes, 10_000, flood("log_flood")),
        (BudgetName::LogBytes, 10_000, flood("stderr_flood")),
        (BudgetName::LogBytes, 10_000, flood("stdout_flood")),
        (BudgetName::RandomBytes, 10_000, json!({ "do": "random", "bytes": 20_000 })),
        (BudgetName::Events, 100, flood("event_flood")),
        (BudgetName::Events, 100, flood("progress_flood")),
        (BudgetName::EventBytes, 10_000, flood("event_flood")),
        (BudgetName::TraceCalls, 100, flood("trace_flood")),
        (BudgetName::TraceBytes, 10_000, flood("trace_flood")),
        (BudgetName::TraceBytes, 10_000, flood("publish_flood")),
        (BudgetName::LlmRequests, 5, json!({ "do": "pending_flood" })),
        (BudgetName::LlmRequestsOpen, 5, json!({ "do": "pending_flood" })),
        (BudgetName::LlmRequestBytes, 1_000, json!({ "do": "llm", "prompt": "x".repeat(2_000) })),
        (BudgetName::LlmTokens, 10, json!({ "do": "llm", "prompt": "x".repeat(2_000) })),
    ]
}

#[tokio::test]
async fn each_runs_out_by_name() {
    let host = Host::new();
    for (budget, limit, action) in cases() {
        let limits = Budget::default()
            .with(budget, limit)
            .with(BudgetName::WallMs, 20_000.min(if budget == BudgetName::WallMs { limit } else { 20_000 }));
        let request = host.request(action.clone()).budget(limits);
        let execution = host.beside_a_neighbour(request).await;
        assert_eq!(exceeded(&execution), budget, "{action}");
        let error = execution.record.error.unwrap();
        assert!(error.contains(&format!("budget exceeded: {budget}, limit {limit}, used ")), "{action}: {error}");
    }
}

#[tokio::test]
async fn a_full_input_is_refused() {
    let host = Host::new();
    let budget = Budget::default().with(BudgetName::InputBytes, 2);
    let execution = host.act_within(json!({ "do": "echo" }), budget).await;
    assert_eq!(execution.record.outcome, Outcome::Refused);
    assert!(execution.record.error.unwrap().contains("input_bytes"));
}

#[tokio::test]
async fn a_cost_that_ran_out_denies_the_next_request() {
    let host = Host::scripted(&json!({ "rules": [{
        "when": {}, "reply": { "text": "dear" }, "usage": { "input_tokens": 1, "output_tokens": 1, "cost_microusd": 600 },
    }]}));
    let ask = json!({ "do": "llm", "prompt": "?" });
    let budget = Budget::default().with(BudgetName::LlmCostMicrousd, 1_000);
    let execution = host.act_within(json!({ "do": "sequence", "steps": [ask, ask, ask] }), budget).await;
    assert_eq!(exceeded(&execution), BudgetName::LlmCostMicrousd);
    assert_eq!(execution.record.usage.get("llm_cost_microusd"), Some(1_200));
    assert_eq!(execution.record.usage.capability("llm").unwrap()["requests"], 2);
}

/// Denial is a value: a guest that lives with it completes.
#[tokio::test]
async fn a_guest_may_live_with_a_denial() {
    let host = Host::new();
    let flood = json!({ "do": "event_flood", "count": 10, "stubborn": true });
    let execution = host.act_within(flood, Budget::default().with(BudgetName::Events, 4)).await;
    assert_eq!(output(&execution), json!({ "done": 4, "denied": 6 }));
}

/// Tokens are taken before a request: many at once cannot spend the same ones.
#[tokio::test]
async fn requests_at_once_do_not_overspend() {
    let host = Host::scripted(&json!({ "rules": [{
        "when": {}, "reply": { "text": "x" }, "delay_ms": 20, "usage": { "input_tokens": 30, "output_tokens": 70 },
    }]}));
    let many = json!({ "do": "catch", "step": { "do": "llm_many", "prompt": "{i}", "count": 32, "max_tokens": 100 } });
    let execution = host.act_within(many, Budget::default().with(BudgetName::LlmTokens, 1_000)).await;
    assert!(execution.record.usage.get("llm_tokens").unwrap() <= 1_000, "{:?}", execution.record.usage);
}

#[tokio::test]
async fn usage_has_an_entry_for_every_budget() {
    let host = Host::new();
    let execution = host.act(json!({ "do": "llm", "prompt": "hello" })).await;
    let usage = serde_json::to_value(&execution.record.usage).unwrap();
    for name in BudgetName::ALL {
        let key = if *name == BudgetName::MemoryBytes { "memory_bytes_peak" } else { name.as_str() };
        assert!(usage[key].is_u64(), "{key}: {usage}");
    }
    for key in ["fuel", "memory_bytes_peak", "host_calls", "llm_requests", "llm_tokens", "trace_calls", "instances"] {
        assert!(usage[key].as_u64() > Some(0), "{key}: {usage}");
    }
    assert_eq!(usage["llm"]["requests"], 1);
}

/// Calls that are cheap for the guest and dear for the host are billed, and so is nothing but waiting.
#[tokio::test]
async fn host_work_is_billed_in_fuel_and_waiting_is_not() {
    let host = Host::new();
    let fuel = |execution: holm_runtime::Execution| execution.record.usage.get("fuel").unwrap();
    let quiet = fuel(host.act(json!({ "do": "echo" })).await);
    let waited = fuel(host.act(json!({ "do": "sleep", "ms": 200 })).await);
    assert!(waited < quiet + 100_000, "{waited} against {quiet}");
    let called = fuel(host.act(json!({ "do": "host_call_loop", "count": 10_000 })).await);
    assert!(called > quiet + 5_000_000, "{called} against {quiet}");
    let moved = fuel(host.act(json!({ "do": "emit", "kind": "big", "payload": "x".repeat(1 << 20) })).await);
    assert!(moved > quiet + (1 << 20), "{moved} against {quiet}");
}

/// A schema of a few bytes can make the host work for long. That work is the guest's: a thousand of them are more
/// than a whole budget.
#[tokio::test]
async fn work_on_schemas_is_billed_in_fuel() {
    let host = Host::new();
    let schema = json!({ "type": "object", "minProperties": 5_000, "propertyNames": { "enum": ["a", "b"] } });
    let costly = json!({ "do": "catch", "step": { "do": "llm_json", "prompt": "?", "schema": schema } });
    let fuel = BudgetName::Fuel.default_limit() / 50;
    let budget = Budget::default().with(BudgetName::Fuel, fuel).with(BudgetName::WallMs, 60_000);
    let execution = host.act_within(json!({ "do": "sequence", "steps": vec![costly; 20] }), budget).await;
    assert_eq!(exceeded(&execution), BudgetName::Fuel);
}

/// A loop of host calls yields like a loop of instructions: on one thread a neighbour gets its turn.
#[tokio::test]
async fn a_loop_of_host_calls_lets_others_run() {
    let host = Host::with(|builder| builder.guest_threads(1));
    let budget = Budget::default().with(BudgetName::WallMs, 1_500).with(BudgetName::HostCalls, Budget::UNLIMITED);
    let budget = budget.with(BudgetName::Fuel, Budget::UNLIMITED);
    let looping = host.request(json!({ "do": "host_call_loop", "count": u64::MAX })).budget(budget);
    let execution = host.beside_a_neighbour(looping).await;
    assert_eq!(exceeded(&execution), BudgetName::WallMs);
}
