//! Every way an execution can end, each beside a neighbour that does not notice.

use std::time::Duration;

use holm_host_api::{Budget, BudgetName, Grants, Outcome};
use holm_runtime::ExecutionRequest;
use serde_json::json;

use crate::support::{Host, exceeded, first, name, small, workload};

async fn run_text(host: &Host, text: &str) -> holm_runtime::Execution {
    let request = ExecutionRequest::new(name("mallory"), host.text(text)).input("x").budget(small());
    host.beside_a_neighbour(request).await
}

#[tokio::test]
async fn completed() {
    let host = Host::new();
    let execution = host.beside_a_neighbour(host.request(json!({ "do": "echo", "value": [1, "two"] }))).await;
    assert_eq!(execution.record.outcome, Outcome::Completed);
    assert_eq!(execution.output, br#"[1,"two"]"#);
    assert_eq!(execution.record.error, None);
}

#[tokio::test]
async fn guest_error() {
    let host = Host::new();
    let execution = host.beside_a_neighbour(host.request(json!({ "do": "fail", "message": "no luck" }))).await;
    assert_eq!(execution.record.outcome, Outcome::GuestError);
    assert_eq!(execution.record.error.as_deref(), Some("no luck"));
}

#[tokio::test]
async fn traps() {
    let host = Host::new();
    for (body, said) in [
        ("(unreachable)", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const -8)))", "out of bounds"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
    ] {
        let execution = run_text(&host, &first("(table 1 funcref)", body)).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped, "{body}");
        let error = execution.record.error.unwrap();
        assert!(error.contains(said), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_panic_of_the_guest_is_a_trap_and_is_in_the_log() {
    let host = Host::new();
    let request = host.request(json!({ "do": "panic", "message": "oh no" }));
    let id = request.execution;
    let execution = host.beside_a_neighbour(request).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
    let log = format!("{:?}", host.events.take(id));
    assert!(log.contains("oh no"), "{log}");
}

#[tokio::test]
async fn results_that_point_nowhere_are_traps() {
    let host = Host::new();
    let results = [
        // The result itself, its string, its length, its discriminant, its alignment, its encoding.
        "(i32.const -4)",
        "(i32.store (i32.const 4) (i32.const -16)) (i32.store (i32.const 8) (i32.const 16)) (i32.const 0)",
        "(i32.store (i32.const 4) (i32.const 0)) (i32.store (i32.const 8) (i32.const 2147483647)) (i32.const 0)",
        "(i32.store (i32.const 0) (i32.const 7)) (i32.const 0)",
        "(i32.const 2)",
        "(i32.store (i32.const 4) (i32.const 64)) (i32.store (i32.const 8) (i32.const 1))
         (i32.store8 (i32.const 64) (i32.const 255)) (i32.const 0)",
    ];
    for result in results {
        let execution = run_text(&host, &workload("", result)).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped, "{result}: {:?}", execution.record.error);
    }
}

#[tokio::test]
async fn an_allocator_that_lies_is_a_trap() {
    let host = Host::new();
    let text = crate::support::ECHO.replace("(local.get $at))", "(i32.const -1))");
    let execution = run_text(&host, &text).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    let host = Host::new();
    for text in [
        first("(func $down (call $down))", "(call $down)"),
        // Large frames: the stack ends between two checks of its depth, if it ends anywhere wrong.
        first(
            "(func $down (param i64 i64 i64 i64) (result i64) (local i64 i64 i64 i64 i64 i64 i64 i64)
                 (i64.add (local.get 0) (call $down (local.get 1) (local.get 2) (local.get 3) (local.get 0))))",
            "(drop (call $down (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))",
        ),
    ] {
        let execution = run_text(&host, &text).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped);
        assert!(execution.record.error.unwrap().starts_with("call stack exhausted"), "names the stack");
    }
}

#[tokio::test]
async fn endless_loops_wherever_code_can_run() {
    let host = Host::new();
    let spin = "(loop $l (br $l))";
    let texts = [
        first("", spin),
        first(&format!("(func $start {spin}) (start $start)"), ""),
        crate::support::ECHO.replace("(local $at i32)", &format!("(local $at i32) {spin}")),
    ];
    for text in texts {
        let execution = run_text(&host, &text).await;
        assert_eq!(exceeded(&execution), BudgetName::Fuel);
        assert_eq!(execution.record.error.unwrap(), "budget exceeded: fuel, limit 50000000, used 50000000");
    }
}

#[tokio::test]
async fn memory_growth_is_summed_over_all_memories() {
    let host = Host::new();
    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l))";
    let execution = run_text(&host, &first("", grow)).await;
    assert_eq!(exceeded(&execution), BudgetName::MemoryBytes);

    // Two modules with 40 MiB each, in nested components: neither alone is over the limit of 64 MiB.
    let nested = r#"(component
        (core module $half (memory (export "memory") 640))
        (component $inner (core module $half (memory 640)) (core instance (instantiate $half)))
        (core instance (instantiate $half))
        (instance (instantiate $inner))"#;
    let text = crate::support::ECHO.replacen("(component", nested, 1);
    let request = ExecutionRequest::new(name("mallory"), host.text(&text)).input("x");
    let limit = Budget::default().with(BudgetName::MemoryBytes, 64 << 20);
    let execution = host.beside_a_neighbour(request.clone().budget(limit)).await;
    assert_eq!(exceeded(&execution), BudgetName::MemoryBytes);
    let enough = Budget::default().with(BudgetName::MemoryBytes, 96 << 20);
    let execution = host.beside_a_neighbour(request.budget(enough)).await;
    assert_eq!(execution.record.outcome, Outcome::Completed);
    assert_eq!(execution.record.usage.get("memory_bytes_peak"), Some((80 << 20) + (64 << 10)));
}

#[tokio::test]
async fn table_growth() {
    let host = Host::new();
    let text = first(
        "(table $a 1 funcref) (table $b 1 funcref)",
        "(loop $l (drop (table.grow $a (ref.null func) (i32.const 1000)))
                  (drop (table.grow $b (ref.null func) (i32.const 1000))) (br $l))",
    );
    assert_eq!(exceeded(&run_text(&host, &text).await), BudgetName::TableElements);
}

#[tokio::test]
async fn endless_waiting() {
    let host = Host::new();
    let budget = Budget::default().with(BudgetName::WallMs, 300);
    let request = host.request(json!({ "do": "sleep_forever" })).budget(budget);
    let execution = host.beside_a_neighbour(request).await;
    assert_eq!(exceeded(&execution), BudgetName::WallMs);
    let usage = &execution.record.usage;
    assert!(usage.get("wall_ms").unwrap() >= 300);
    assert!(usage.get("cpu_ms").unwrap() < 200, "waiting is not compute: {usage:?}");
}

#[tokio::test]
async fn cancelled_while_it_computes_and_while_it_waits() {
    let host = Host::new();
    for action in [json!({ "do": "spin" }), json!({ "do": "sleep_forever" }), json!({ "do": "wait_cancel" })] {
        let request = host.request(action);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!host.runtime.cancel(&name("bob"), request.execution), "another user's is not there");
            assert!(host.runtime.cancel(&request.user, request.execution));
        };
        let (execution, ()) = tokio::join!(host.runtime.execute(request.clone()), stop);
        assert_eq!(execution.record.outcome, Outcome::Cancelled);
        host.assert_nothing_held().await;
    }
}

#[tokio::test]
async fn an_execution_whose_caller_went_away_ends() {
    let host = Host::new();
    let request = host.request(json!({ "do": "sleep_forever" }));
    let abandoned = tokio::time::timeout(Duration::from_millis(100), host.runtime.execute(request)).await;
    assert!(abandoned.is_err());
    host.assert_nothing_held().await;
}

#[tokio::test]
async fn refused() {
    let host = Host::new();
    let request = host.request(json!({ "do": "echo" })).grants(Grants::none());
    let execution = host.beside_a_neighbour(request).await;
    assert_eq!(execution.record.outcome, Outcome::Refused);
    let error = execution.record.error.unwrap();
    for interface in ["holm:host/events@0.1.0", "holm:host/llm@0.1.0", "holm:host/trace@0.1.0"] {
        assert!(error.contains(interface), "all at once: {error}");
    }

    let budget = Budget::default().with(BudgetName::InputBytes, 3);
    let execution = host.beside_a_neighbour(host.request(json!({ "do": "echo" })).budget(budget)).await;
    assert_eq!(execution.record.outcome, Outcome::Refused);

    let twice = host.request(json!({ "do": "sleep", "ms": 200 }));
    let (first, second) = tokio::join!(host.runtime.execute(twice.clone()), host.runtime.execute(twice));
    let outcomes = [first.record.outcome, second.record.outcome];
    assert!(outcomes.contains(&Outcome::Completed) && outcomes.contains(&Outcome::Refused), "{outcomes:?}");
}
