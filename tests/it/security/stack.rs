//! Recursion, in the guest and through the host. Plain recursion is in `outcomes`.

use holm_host_api::{BudgetName, Outcome};
use holm_runtime::ExecutionRequest;

use super::guests::Guest;
use super::{attack, attack_with, request, small};
use crate::support::{Host, exceeded, name};

#[tokio::test]
async fn an_allocator_that_recurses_while_the_host_calls_it_is_a_trap() {
    let host = Host::new();
    // A host function that returns a text asks for memory, in the middle of the guest's own recursion.
    let deep = "(func $down (param i32) (result i32)
        (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";
    let guest = Guest::new(&["identity"], "(global.set $armed (i32.const 1)) (call $identity (i32.const 16))")
        .with(format!("(global $armed (mut i32) (i32.const 0)) {deep}"))
        .realloc("(if (global.get $armed) (then (drop (call $down (i32.const 0)))))");
    let execution = attack(&host, &guest).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
    assert!(execution.record.error.unwrap().starts_with("call stack exhausted"));
}

/// The host asks for memory, and the guest's allocator calls the host again, which is not allowed: no stack of
/// host functions grows.
#[tokio::test]
async fn an_allocator_that_calls_the_host_again_is_a_trap() {
    let host = Host::new();
    let guest = Guest::new(&["identity"], "(global.set $armed (i32.const 1)) (call $identity (i32.const 16))")
        .with("(global $armed (mut i32) (i32.const 0))")
        .realloc("(if (global.get $armed) (then (call $identity (i32.const 16))))");
    let execution = attack(&host, &guest).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped, "{:?}", execution.record.error);
    assert!(execution.record.usage.get("host_calls").unwrap() <= 2);
}

/// A call of the host at the very end of the guest's stack has a stack of its own.
#[tokio::test]
async fn host_calls_at_the_end_of_the_stack_are_safe() {
    let host = Host::new();
    for (import, call) in [
        ("log", "(call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
        ("identity", "(call $identity (i32.const 16)) (global.set $next (i32.const 65536))"),
        ("emit", "(call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))"),
        ("complete", "(call $complete (i32.const 1024) (i32.const 16))"),
        ("publish", "(call $publish (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))"),
    ] {
        let guest = Guest::new(&[import], "(drop (call $down (i64.const 0)))").with(format!(
            "(func $down (param i64) (result i64) {call}
               (i64.add (call $down (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))"
        ));
        let execution = attack(&host, &guest).await;
        let error = execution.record.error.clone().unwrap();
        // Some of these calls cost more fuel than the stack is deep. Where a budget denied some before the stack
        // ended, the outcome is that budget's.
        assert!(error.starts_with("call stack exhausted") || exceeded(&execution) == BudgetName::Fuel, "{error}");
        assert!(matches!(execution.record.outcome, Outcome::Trapped | Outcome::BudgetExceeded(_)), "{import}");
    }
}

/// A frame may be larger than what is left of the stack, and than the whole of it.
#[tokio::test]
async fn huge_frames_are_traps() {
    let host = Host::new();
    for count in [1_000, 49_000] {
        let locals = format!("(local {})", "i64 ".repeat(count));
        // Every local is alive across the call: each has a place in the frame.
        let set: String =
            (0..count).map(|n| format!("(local.set {} (i64.load (i32.const {})))", n + 1, n % 1024 * 8)).collect();
        let sum: String =
            (0..count).map(|n| format!("(local.set 0 (i64.add (local.get 0) (local.get {})))", n + 1)).collect();
        let function = format!(
            "(func $down (param i64) (result i64) {locals} {set} (local.set 0 (call $down (local.get 0))) {sum} (local.get 0))"
        );
        let guest = Guest::new(&[], "(drop (call $down (i64.const 1)))").with(function);
        let workload = match host.runtime.intake(&guest.bytes()) {
            Ok(workload) => workload,
            Err(error) => panic!("{error}"),
        };
        let request = ExecutionRequest::new(name("mallory"), workload).input("x").budget(small());
        let execution = attack_with(&host, request).await;
        match execution.record.outcome {
            Outcome::Trapped => {
                let error = execution.record.error.unwrap();
                assert!(error.starts_with("call stack exhausted"), "{count}: {error}");
            }
            // The compiler has limits of its own, and says so.
            Outcome::Refused => assert!(execution.record.error.unwrap().contains("cannot be compiled")),
            other => panic!("{count}: {other:?}"),
        }
    }
}

/// A thousand parameters, as often as the stack holds them; and as many results.
#[tokio::test]
async fn huge_signatures_are_traps() {
    let host = Host::new();
    let many = "i64 ".repeat(900);
    let get: String = (0..900).map(|n| format!("(local.get {n})")).collect();
    let zeroes = "(i64.const 0)".repeat(900);
    for (function, call) in [
        (format!("(func $down (param {many}) (call $down {get}))"), format!("(call $down {zeroes})")),
        (format!("(func $down (result {many}) (call $down))"), format!("(call $down) {}", "(drop)".repeat(900))),
    ] {
        let guest = Guest::new(&[], call).with(function);
        let execution = attack_with(&host, request(&host, "mallory", &guest)).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped, "{:?}", execution.record.error);
        assert!(execution.record.error.unwrap().starts_with("call stack exhausted"));
    }
}

/// Components that call one another, each the next one twice, and at the end a loop.
#[tokio::test]
async fn calls_through_many_components_run_out_of_fuel_or_stack() {
    let host = Host::new();
    let run = |bottom: &str, levels: usize| {
        let chain: String = (1..=levels)
            .map(|n| format!("(instance $i{n} (instantiate $level (with \"f\" (func $i{} \"f\"))))", n - 1))
            .collect();
        let text = format!(
            r#"(component
              (component $bottom
                (core module $m (func (export "f") {bottom}))
                (core instance $m (instantiate $m))
                (func (export "f") (canon lift (core func $m "f"))))
              (component $level
                (import "f" (func $f))
                (core func $f (canon lower (func $f)))
                (core module $m (import "i" "f" (func $f)) (func (export "f") (call $f) (call $f)))
                (core instance $m (instantiate $m (with "i" (instance (export "f" (func $f))))))
                (func (export "f") (canon lift (core func $m "f"))))
              (component $top
                (import "f" (func $f))
                (core func $f (canon lower (func $f)))
                (core module $m
                  (import "i" "f" (func $f))
                  (memory (export "memory") 1)
                  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                  (func (export "run") (param i32 i32) (result i32) (call $f) (unreachable)))
                (core instance $m (instantiate $m (with "i" (instance (export "f" (func $f))))))
                (func (export "run") (param "input" string) (result (result string (error string)))
                  (canon lift (core func $m "run") (memory (core memory $m "memory"))
                    (realloc (core func $m "realloc")))))
              (instance $i0 (instantiate $bottom))
              {chain}
              (instance $top (instantiate $top (with "f" (func $i{levels} "f"))))
              (export "run" (func $top "run")))"#
        );
        let workload = host.text(&text);
        let request = ExecutionRequest::new(name("mallory"), workload).input("x").budget(small());
        async { attack_with(&host, request).await }
    };
    assert_eq!(exceeded(&run("(loop $l (br $l))", 90).await), BudgetName::Fuel);
    // Two to the ninetieth calls.
    assert_eq!(exceeded(&run("", 90).await), BudgetName::Fuel);
    let execution = run("(call 0)", 90).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
    assert!(execution.record.error.unwrap().starts_with("call stack exhausted"));
}
