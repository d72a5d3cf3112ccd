//! Memories, tables, handles and what the host keeps. Growth of one and two memories is in `outcomes`, the budgets
//! of floods in `budgets`, arguments and the memory of the host's process in `arguments` and `peak`.

use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::ExecutionRequest;

use super::guests::{Guest, times};
use super::{attack, attack_with, request, small};
use crate::support::{Host, exceeded, name};

/// A component of a main module and of others around it.
fn beside(others: &str, body: &str) -> String {
    format!(
        r#"(component {others}
          (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
            (func (export "run") (param i32 i32) (result i32) {body}
              (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 0))
              (i32.store (i32.const 24) (i32.const 0)) (i32.const 16)))
          (core instance $m (instantiate $m))
          (func (export "run") (param "input" string) (result (result string (error string)))
            (canon lift (core func $m "run") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"#
    )
}

#[tokio::test]
async fn memory_is_summed_over_fifteen_modules_that_grow_in_their_start_functions() {
    let host = Host::new();
    // Each grows by 16 MiB as it starts: none is over a limit of 100 MiB, all together are.
    let grow = "(core module $g (memory 1) (func $s (drop (memory.grow (i32.const 256)))) (start $s))";
    let others = format!("{grow} {}", "(core instance (instantiate $g))".repeat(15));
    let request = |limit: u64| {
        let workload = host.text(&beside(&others, ""));
        let budget = small().with(BudgetName::MemoryBytes, limit << 20);
        ExecutionRequest::new(name("mallory"), workload).input("x").budget(budget)
    };
    let execution = attack_with(&host, request(100)).await;
    assert_eq!(exceeded(&execution), BudgetName::MemoryBytes);
    assert!(execution.record.usage.get("memory_bytes_peak").unwrap() <= 100 << 20);
    assert_eq!(attack_with(&host, request(256)).await.record.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_beginning_beyond_the_limit_ends_before_any_code_runs() {
    let host = Host::new();
    let cases = [
        ("(core module $g (memory 2048)) (core instance (instantiate $g))", BudgetName::MemoryBytes),
        ("(core module $g (table 1000 funcref)) (core instance (instantiate $g))", BudgetName::TableElements),
    ];
    for (others, budget) in cases {
        let workload = host.text(&beside(others, ""));
        let limits = small().with(BudgetName::MemoryBytes, 64 << 20).with(BudgetName::TableElements, 999);
        let request = ExecutionRequest::new(name("mallory"), workload).input("x").budget(limits);
        let execution = attack_with(&host, request).await;
        assert_eq!(exceeded(&execution), budget);
        assert!(execution.record.usage.get("fuel").unwrap() < 1_000, "{:?}", execution.record.usage);
    }
    // A memory that no machine has is refused with the upload.
    for others in ["(core module $g (memory 65536))", "(core module $g (table 4000000000 funcref))"] {
        let error = host.runtime.intake(beside(&format!("{others} (core instance (instantiate $g))"), "").as_bytes());
        assert_eq!(error.unwrap_err().code(), "too_large");
    }
}

#[tokio::test]
async fn growth_beyond_every_number_is_refused() {
    let host = Host::new();
    for body in [
        "(drop (memory.grow (i32.const -1)))",
        "(drop (memory.grow (i32.const 65535)))",
        "(drop (memory.grow (i32.const 2147483647)))",
        "(drop (table.grow $t (ref.null func) (i32.const -1)))",
        "(drop (table.grow $t (ref.null func) (i32.const 2147483647)))",
    ] {
        let guest = Guest::new(&[], body).with("(table $t 1 funcref)");
        let execution = attack(&host, &guest).await;
        // Where it cannot be because of the type's own maximum the guest gets -1, as the specification says.
        match execution.record.outcome {
            Outcome::Completed => {}
            _ => assert!(matches!(
                exceeded(&execution),
                BudgetName::MemoryBytes | BudgetName::TableElements | BudgetName::Fuel
            )),
        }
        assert!(execution.record.usage.get("memory_bytes_peak").unwrap() <= 256 << 20, "{body}");
    }
}

#[tokio::test]
async fn tables_are_summed_over_the_whole_execution() {
    let host = Host::new();
    let tables: String = (0..8).map(|n| format!("(table $t{n} 1 funcref)")).collect();
    let grow: String = (0..8).map(|n| format!("(drop (table.grow $t{n} (ref.null func) (i32.const 100)))")).collect();
    let guest = Guest::endless(&[], &grow).with(tables);
    let budget = small().with(BudgetName::TableElements, 5_000);
    let execution = attack_with(&host, request(&host, "mallory", &guest).budget(budget)).await;
    assert_eq!(exceeded(&execution), BudgetName::TableElements);
    assert!(execution.record.usage.get("table_elements").unwrap() <= 5_000);
}

/// A request with one message of one text, at 1024.
const REQUEST: &str = "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
    (i32.store8 (i32.const 1200) (i32.const 1))
    (i32.store (i32.const 1204) (i32.const 1300)) (i32.store (i32.const 1208) (i32.const 1))
    (i32.store (i32.const 1304) (i32.const 2048)) (i32.store (i32.const 1308) (i32.const 1))";

/// Every kind of handle runs out by name, whether the host says so as a value or ends the execution.
#[tokio::test]
async fn floods_of_every_kind_of_handle_run_out() {
    let host = Host::new();
    let failed = "(if (i32.load8_u (i32.const 16)) (then (unreachable)))";
    let requests = format!("{REQUEST} (loop $l (call $submit (i32.const 1024) (i32.const 16)) {failed} (br $l))");
    let streams = format!("{REQUEST} (loop $l (call $stream (i32.const 1024) (i32.const 16)) {failed} (br $l))");
    let calls = format!(
        "(loop $l (call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16)) {failed} (br $l))"
    );
    let children = format!(
        "(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
         (local.set $h (i32.load (i32.const 24)))
         (loop $l (call $child (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
           {failed} (br $l))"
    );
    for (imports, body) in [
        (&["submit"][..], requests),
        (&["stream"], streams),
        (&["start"], calls),
        (&["start", "child"], children),
        (&["stdout"], "(loop $l (drop (call $stdout)) (br $l))".into()),
        (&["stdin"], "(loop $l (drop (call $stdin)) (br $l))".into()),
        (&["timer"], "(loop $l (drop (call $timer (i64.const 0))) (br $l))".into()),
    ] {
        let budget = Budget::default().with(BudgetName::Handles, 200).with(BudgetName::LlmRequestsOpen, 100_000);
        let guest = Guest::new(imports, body).with("(data (i32.const 2048) \"x\")");
        let execution = attack_with(&host, request(&host, "mallory", &guest).budget(budget)).await;
        assert_eq!(exceeded(&execution), BudgetName::Handles, "{imports:?}");
        assert!(execution.record.usage.get("handles").unwrap() <= 200, "{:?}", execution.record.usage);
    }
}

/// What the host keeps has a budget each, and what a guest leaves out does not make it free.
#[tokio::test]
async fn floods_of_middling_calls_run_out_by_what_the_host_keeps() {
    let host = Host::new();
    let failed = "(if (i32.load8_u (i32.const 16)) (then (unreachable)))";
    let call = "(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
        (local.set $h (i32.load (i32.const 24)))";
    let cases = [
        (&["emit"][..], "(call $emit (i32.const 2048) (i32.const 1) (i32.const 4096) (i32.const 3000) (i32.const 16))".to_owned(), BudgetName::EventBytes),
        (&["emit"], "(call $emit (i32.const 2048) (i32.const 0) (i32.const 4096) (i32.const 0) (i32.const 16))".into(), BudgetName::Events),
        (&["log"], "(call $log (i32.const 3) (i32.const 4096) (i32.const 3000) (i32.const 16))".into(), BudgetName::LogBytes),
        (&["log"], "(call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))".into(), BudgetName::LogLines),
        (&["start", "drop-call"], format!("{call} {failed} (call $drop-call (local.get $h))"), BudgetName::TraceCalls),
        (&["publish"], "(call $publish (i32.const 2048) (i32.const 1) (i32.const 2048) (i32.const 1) (i32.const 16)) (global.set $next (i32.const 65536))".into(), BudgetName::TraceBytes),
        (&["start", "attribute"], format!("(if (i32.eqz (local.get $h)) (then {call}))
            (call $attribute (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))"), BudgetName::TraceBytes),
    ];
    for (imports, body, budget) in cases {
        let limits = Budget::default()
            .with(BudgetName::LogBytes, 300_000)
            .with(BudgetName::LogLines, 2_000)
            .with(BudgetName::TraceBytes, 300_000)
            .with(BudgetName::TraceCalls, 1_000)
            .with(BudgetName::Events, 2_000)
            .with(BudgetName::EventBytes, 300_000);
        let guest = Guest::endless(imports, &format!("{body} {failed}")).with("(data (i32.const 2048) \"x\")");
        let execution = attack_with(&host, request(&host, "mallory", &guest).budget(limits)).await;
        assert_eq!(exceeded(&execution), budget, "{body}");
    }
}

/// Spans of streams that say nothing, and random bytes by the gigabyte.
#[tokio::test]
async fn random_bytes_by_the_gigabyte_run_out() {
    let host = Host::new();
    for bytes in ["(i64.const 1000000)", "(i64.const 1073741824)", "(i64.const -1)"] {
        let guest = Guest::endless(&["random"], &format!("(call $random {bytes} (i32.const 16))"));
        let budget = Budget::default().with(BudgetName::RandomBytes, 3_000_000);
        let execution = attack_with(&host, request(&host, "mallory", &guest).budget(budget)).await;
        assert_eq!(exceeded(&execution), BudgetName::RandomBytes, "{bytes}");
    }
}

/// Deep JSON wherever the host parses it is kept as text or refused as a value, and uses up no stack.
#[tokio::test]
async fn deep_json_uses_up_no_stack() {
    let host = Host::new();
    let long = 100_000;
    let fill = |open: u8, close: u8| {
        format!(
            "(memory.fill (i32.const 65536) (i32.const {open}) (i32.const {long}))
             (memory.fill (i32.const {}) (i32.const {close}) (i32.const {long}))
             (global.set $next (i32.const 524288))",
            65_536 + long
        )
    };
    let json = format!("(i32.const 65536) (i32.const {})", 2 * long);
    let objects = format!(
        "{} (loop $l (i64.store (i32.add (i32.const 65536) (i32.shl (local.get $i) (i32.const 3))) (i64.const {}))
           (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20000))))",
        fill(b'[', b']'),
        // {"a":[[[
        i64::from_le_bytes(*b"{\"a\":[[[")
    );
    for (imports, body) in [
        (&["start"][..], format!("(call $start (i32.const 2048) (i32.const 1) {json} (i32.const 16))")),
        (&["publish"], format!("(call $publish (i32.const 2048) (i32.const 1) {json} (i32.const 16))")),
        (&["emit"], format!("(call $emit (i32.const 2048) (i32.const 1) {json} (i32.const 16))")),
        (&["start", "attribute"], format!("(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
            (call $attribute (i32.load (i32.const 24)) (i32.const 2048) (i32.const 1) {json} (i32.const 16))")),
        (&["start", "finish"], format!("(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
            (call $finish (i32.load (i32.const 24)) (i32.const 0) {json} (i32.const 16))")),
        (&["publish", "feedback"], format!("(call $publish (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
            (call $feedback (i32.load (i32.const 24)) (i32.load (i32.const 28)) (i32.const 2048) (i32.const 1) {json} (i32.const 16))")),
        // The schema of an answer, and of a tool's parameters.
        (&["complete"], format!("{REQUEST} (i32.store8 (i32.const 1080) (i32.const 1))
            (i32.store (i32.const 1084) (i32.const 65536)) (i32.store (i32.const 1088) (i32.const {}))
            (call $complete (i32.const 1024) (i32.const 16))", 2 * long)),
        (&["complete"], format!("{REQUEST} (i32.store (i32.const 1072) (i32.const 1400)) (i32.store (i32.const 1076) (i32.const 1))
            (i32.store (i32.const 1400) (i32.const 2048)) (i32.store (i32.const 1404) (i32.const 1))
            (i32.store (i32.const 1416) (i32.const 65536)) (i32.store (i32.const 1420) (i32.const {}))
            (call $complete (i32.const 1024) (i32.const 16))", 2 * long)),
        // The output, which the trace shows.
        (&[], format!("(local.set $ptr (i32.const 65536)) (local.set $len (i32.const {}))", 2 * long)),
    ] {
        for fill in [fill(b'[', b']'), objects.clone()] {
            let guest = Guest::new(imports, format!("{fill} {body}")).pages(8).with("(data (i32.const 2048) \"x\")");
            let execution = attack_with(&host, request(&host, "mallory", &guest).budget(Budget::default())).await;
            assert_eq!(execution.record.outcome, Outcome::Completed, "{imports:?}: {:?}", execution.record.error);
        }
    }
}

/// Each of a hundred timers is a handle until it is dropped, also when the guest that holds them is gone.
#[tokio::test]
async fn handles_that_are_left_behind_go_with_the_execution() {
    let host = Host::with(|builder| builder.executions_max(1));
    let body = times(100, "(drop (call $timer (i64.const 360000000000000))) (drop (call $stdout))");
    for _ in 0..20 {
        let execution = attack(&host, &Guest::new(&["timer", "stdout"], &*body)).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    }
}

/// A journal keeps what the guest reads, however often it reads it.
#[tokio::test]
async fn a_journal_of_large_results_is_bounded() {
    let host = Host::new();
    let body = format!(
        "(memory.fill (i32.const 65536) (i32.const 120) (i32.const 1000000)) (global.set $next (i32.const 1100000))
         (call $publish (i32.const 2048) (i32.const 1) (i32.const 65536) (i32.const 1000000) (i32.const 16))
         (local.set $ptr (i32.load (i32.const 24))) (local.set $len (i32.load (i32.const 28)))
         {} (local.set $len (i32.const 0))",
        times(
            300,
            "(global.set $next (i32.const 1200000))
             (call $resolve (local.get $ptr) (local.get $len) (i32.const 16))"
        )
    );
    let guest = Guest::new(&["publish", "resolve"], body).pages(40).with("(data (i32.const 2048) \"x\")");
    let mut request = request(&host, "mallory", &guest).budget(Budget::default());
    request.journal_entries_max = 10_000;
    let execution = attack_with(&host, request).await;
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    assert_eq!(execution.record.usage.get("host_calls"), Some(301));
    let kept: usize = execution.journal.iter().map(|entry| serde_json::to_vec(entry).unwrap().len()).sum();
    assert!(execution.journal.len() > 10 && kept < 70 << 20, "{} entries, {kept} bytes", execution.journal.len());
}
