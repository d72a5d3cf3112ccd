//! Endless code and endless calls. Loops in the entry point, in a start function and in `realloc` are in `outcomes`.

use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::ExecutionRequest;

use super::guests::Guest;
use super::{attack, attack_with, small};
use crate::support::{Host, exceeded, name};

/// Thirty million units of fuel are thirty milliseconds. In a debug build the host is many times slower.
const CPU_MS_MAX: u64 = 1_500;

const SPIN: &str = "(loop $spin (br $spin))";

#[tokio::test]
async fn loops_beside_the_entry_point_run_out_of_fuel() {
    let host = Host::new();
    for guest in [
        // The start function begins where the segments' end.
        Guest::new(&[], "").with(format!(
            "(data (i32.const 0) \"x\") (table 1 funcref) (elem (i32.const 0) $spin)
             (func $spin {SPIN}) (start $call) (func $call (call_indirect (i32.const 0)))"
        )),
        // Memory for what the host returns, asked for in the middle of a host call.
        Guest::new(&["identity"], "(call $identity (i32.const 16))")
            .with("(global $calls (mut i32) (i32.const 0))")
            .realloc(&format!(
                "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                 (if (i32.gt_u (global.get $calls) (i32.const 3)) (then {SPIN}))"
            )),
        Guest::new(&[], "").post_return(SPIN),
    ] {
        let execution = attack(&host, &guest).await;
        assert_eq!(exceeded(&execution), BudgetName::Fuel);
        assert_eq!(execution.record.usage.get("fuel"), Some(30_000_000));
    }
}

#[tokio::test]
async fn a_destructor_of_the_guests_own_resource_runs_out_of_fuel() {
    let host = Host::new();
    let text = format!(
        r#"(component
          (core module $d (func (export "dtor") (param i32) {SPIN}))
          (core instance $d (instantiate $d))
          (type $r (resource (rep i32) (dtor (func $d "dtor"))))
          (core func $new (canon resource.new $r))
          (core func $drop (canon resource.drop $r))
          (core module $m
            (import "r" "new" (func $new (param i32) (result i32)))
            (import "r" "drop" (func $drop (param i32)))
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
            (func (export "run") (param i32 i32) (result i32)
              (call $drop (call $new (i32.const 7))) (unreachable)))
          (core instance $m (instantiate $m
            (with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
          (func (export "run") (param "input" string) (result (result string (error string)))
            (canon lift (core func $m "run") (memory (core memory $m "memory"))
              (realloc (core func $m "realloc")))))"#
    );
    let request = ExecutionRequest::new(name("mallory"), host.text(&text)).input("x").budget(small());
    assert_eq!(exceeded(&attack_with(&host, request).await), BudgetName::Fuel);
}

/// A resource of the guest's own costs the host an entry in a table whose size wasmtime bounds.
#[tokio::test]
async fn resources_of_the_guests_own_are_bounded() {
    let host = Host::new();
    for drops in [false, true] {
        let text = format!(
            r#"(component
              (type $r (resource (rep i32)))
              (core func $new (canon resource.new $r))
              (core func $drop (canon resource.drop $r))
              (core module $m
                (import "r" "new" (func $new (param i32) (result i32)))
                (import "r" "drop" (func $drop (param i32)))
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                (func (export "run") (param i32 i32) (result i32)
                  (loop $l ({} (call $new (i32.const 7))) (br $l)) (unreachable)))
              (core instance $m (instantiate $m
                (with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
              (func (export "run") (param "input" string) (result (result string (error string)))
                (canon lift (core func $m "run") (memory (core memory $m "memory"))
                  (realloc (core func $m "realloc")))))"#,
            if drops { "call $drop" } else { "drop" }
        );
        // These calls take the host far longer than their fuel says.
        let budget = small().with(BudgetName::Fuel, 5_000_000);
        let request = ExecutionRequest::new(name("mallory"), host.text(&text)).input("x").budget(budget);
        let execution = attack_with(&host, request).await;
        if drops {
            assert_eq!(exceeded(&execution), BudgetName::Fuel);
        } else {
            assert_eq!(execution.record.outcome, Outcome::Trapped);
            assert!(execution.record.error.unwrap().contains("store handle limit exceeded"));
        }
    }
}

#[tokio::test]
async fn bulk_operations_are_charged_for_what_they_move() {
    let host = Host::new();
    let mega = 1 << 20;
    for (more, body) in [
        ("", format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {}))", 16 * mega)),
        ("", format!("(memory.copy (i32.const 0) (i32.const {}) (i32.const {}))", 8 * mega, 8 * mega)),
        ("(data $d \"xxxxxxxx\")", "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 8))".into()),
        ("(table $t 190000 funcref)", "(table.fill $t (i32.const 0) (ref.null func) (i32.const 190000))".into()),
        ("(table $t 190000 funcref)", "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 189999))".into()),
        (
            "(table $t 1000 funcref) (func $f) (elem $e func $f $f $f $f)",
            "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 4))".into(),
        ),
        ("(data $d \"x\")", "(data.drop $d)".into()),
        ("(func $f) (elem $e func $f)", "(elem.drop $e)".into()),
        ("(func $f) (elem declare func $f)", "(drop (ref.func $f))".into()),
        // Nothing at all, as often as it goes.
        ("", "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0))".into()),
        ("(table $t 1 funcref)", "(drop (table.grow $t (ref.null func) (i32.const 0)))".into()),
        ("", "(drop (memory.grow (i32.const 0)))".into()),
    ] {
        let guest = Guest::endless(&[], &body).pages(300).with(more);
        let execution = attack(&host, &guest).await;
        assert_eq!(exceeded(&execution), BudgetName::Fuel, "{body}");
        let cpu_ms = execution.record.usage.get("cpu_ms").unwrap();
        assert!(cpu_ms < CPU_MS_MAX, "{body}: {cpu_ms} ms");
    }
}

/// Ten to the twentieth calls without a loop or a recursion.
#[tokio::test]
async fn straight_code_runs_out_of_fuel_too() {
    let host = Host::new();
    let mut functions = "(func $f0)".to_owned();
    for level in 1..=20 {
        functions += &format!("(func $f{level} {})", format!("(call $f{})", level - 1).repeat(10));
    }
    let guest = Guest::new(&[], "(call $f20)").with(functions);
    assert_eq!(exceeded(&attack(&host, &guest).await), BudgetName::Fuel);

    // One function that is nothing but dear operations.
    let fills = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216))".repeat(2_000);
    let guest = Guest::new(&[], fills).pages(300);
    assert_eq!(exceeded(&attack(&host, &guest).await), BudgetName::Fuel);
}

/// Calls that cost the guest next to nothing.
fn cheap_calls() -> Vec<(&'static [&'static str], &'static str)> {
    vec![
        (&["now"], "(drop (call $now))"),
        (&["random-u64"], "(drop (call $random-u64))"),
        (&["cancelled"], "(drop (call $cancelled))"),
        (&["remaining"], "(call $remaining (i32.const 16))"),
        (&["config"], "(call $config (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["stdout", "drop-output"], "(call $drop-output (call $stdout))"),
        (&["timer", "drop-pollable"], "(call $drop-pollable (call $timer (i64.const 0)))"),
        (
            &["timer", "ready", "drop-pollable"],
            "(local.set $h (call $timer (i64.const 0))) (drop (call $ready (local.get $h)))
             (call $drop-pollable (local.get $h))",
        ),
        (
            &["timer", "block", "drop-pollable"],
            "(local.set $h (call $timer (i64.const 0))) (call $block (local.get $h))
             (call $drop-pollable (local.get $h))",
        ),
        (&["log"], "(call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["emit"], "(call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (
            &["progress"],
            "(call $progress (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 16))",
        ),
        (
            &["start", "drop-call"],
            "(call $start (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
             (if (i32.eqz (i32.load8_u (i32.const 16))) (then (call $drop-call (i32.load (i32.const 24)))))",
        ),
        // Denied every time.
        (&["start"], "(call $start (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["publish"], "(call $publish (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["resolve"], "(call $resolve (i32.const 0) (i32.const 0) (i32.const 16))"),
        (
            &["feedback"],
            "(call $feedback (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
               (i32.const 16))",
        ),
        (&["complete"], "(call $complete (i32.const 1024) (i32.const 16))"),
        (&["submit"], "(call $submit (i32.const 1024) (i32.const 16))"),
        (&["wait"], "(call $wait (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 16))"),
        (
            &["embed"],
            "(call $embed (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))",
        ),
    ]
}

/// One thread for all guests: whoever does not yield holds up the neighbour.
#[tokio::test]
async fn endless_cheap_calls_end_by_a_budget_and_yield() {
    let host = Host::with(|builder| builder.guest_threads(1));
    for (imports, body) in cheap_calls() {
        let execution = attack(&host, &Guest::endless(imports, body)).await;
        let budget = exceeded(&execution);
        // The memory is the guest's own: what the host returns it has to take.
        assert!(
            matches!(budget, BudgetName::Fuel | BudgetName::LogLines | BudgetName::MemoryBytes),
            "{body}: {budget}"
        );
        let cpu_ms = execution.record.usage.get("cpu_ms").unwrap();
        assert!(cpu_ms < CPU_MS_MAX, "{body}: {cpu_ms} ms");
    }
}

#[tokio::test]
async fn endless_cheap_calls_on_one_stream_end_by_a_budget_and_yield() {
    let host = Host::with(|builder| builder.guest_threads(1));
    for (import, body) in [
        ("check-write", "(call $check-write (local.get $h) (i32.const 16))"),
        ("write", "(call $write (local.get $h) (i32.const 0) (i32.const 0) (i32.const 16))"),
        ("write-flush", "(call $write-flush (local.get $h) (i32.const 0) (i32.const 0) (i32.const 16))"),
        ("write-zeroes", "(call $write-zeroes (local.get $h) (i64.const 0) (i32.const 16))"),
    ] {
        let body = format!("(local.set $h (call $stdout)) (loop $l {body} (br $l))");
        let execution = attack(&host, &Guest::new(&["stdout", import], body)).await;
        assert_eq!(exceeded(&execution), BudgetName::Fuel, "{import}");
    }
    // The end of an empty stream, and nothing of it, for ever.
    for bytes in [0, 1] {
        let body = format!(
            "(local.set $h (call $stdin)) (loop $l (call $read (local.get $h) (i64.const {bytes}) (i32.const 16)) (br $l))"
        );
        let execution = attack(&host, &Guest::new(&["stdin", "read"], body)).await;
        assert!(matches!(exceeded(&execution), BudgetName::Fuel | BudgetName::Handles), "{bytes}");
    }
}

/// Without a budget for compute the wall clock ends them, and the neighbour runs on until then.
#[tokio::test]
async fn endless_calls_without_fuel_limit_end_by_the_clock() {
    let host = Host::with(|builder| builder.guest_threads(1));
    for (imports, body) in [
        (&["now"][..], "(drop (call $now))"),
        (
            &["start"][..],
            "(call $start (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)) (global.set $next (i32.const 65536))",
        ),
    ] {
        let budget = Budget::default().with(BudgetName::Fuel, Budget::UNLIMITED);
        let budget = budget.with(BudgetName::HostCalls, Budget::UNLIMITED).with(BudgetName::WallMs, 400);
        let request = super::request(&host, "mallory", &Guest::endless(imports, body)).budget(budget);
        assert_eq!(exceeded(&attack_with(&host, request).await), BudgetName::WallMs, "{body}");
    }
}

/// Between components the engine copies text, and asks for no fuel for it.
#[tokio::test]
async fn text_from_component_to_component_holds_no_thread_for_long() {
    let host = Host::with(|builder| builder.guest_threads(1));
    let libc = "(core module $libc (memory (export \"memory\") 800)
        (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
      (core instance $libc (instantiate $libc))
      (core func $f (canon lower (func $f) (memory $libc \"memory\") (realloc (func $libc \"realloc\"))))
      (core module $m
        (import \"libc\" \"memory\" (memory 1)) (import \"i\" \"f\" (func $f (param i32 i32)))
        (func (export \"run\") (param i32 i32) (result i32)
          (loop $l (call $f (i32.const 65536) (i32.const 50000000)) (br $l)) (unreachable)))
      (core instance $m (instantiate $m (with \"libc\" (instance $libc)) (with \"i\" (instance (export \"f\" (func $f))))))
      (func (export \"run\") (param \"input\" string) (result (result string (error string)))
        (canon lift (core func $m \"run\") (memory $libc \"memory\") (realloc (func $libc \"realloc\"))))";
    let to = "(component $to
      (core module $m (memory (export \"memory\") 800)
        (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
        (func (export \"f\") (param i32 i32)))
      (core instance $m (instantiate $m))
      (func (export \"f\") (param \"text\" string)
        (canon lift (core func $m \"f\") (memory $m \"memory\") (realloc (func $m \"realloc\")))))
      (instance $to (instantiate $to))";
    let inner = format!(
        "(component {to}
           (component $from (import \"f\" (func $f (param \"text\" string))) {libc})
           (instance $from (instantiate $from (with \"f\" (func $to \"f\"))))
           (export \"run\" (func $from \"run\")))"
    );
    let outer = format!("(component {to} (alias export $to \"f\" (func $f)) {libc})");
    let renamed = format!("(component {to} (export $f \"again\" (func $to \"f\")) {libc})");
    for workload in [outer, renamed] {
        assert!(host.runtime.intake(workload.as_bytes()).unwrap().inspection().copies_between_components);
    }
    let workload = host.runtime.intake(inner.as_bytes()).unwrap();
    assert!(workload.inspection().copies_between_components);
    let budget = Budget::default().with(BudgetName::WallMs, 1_000);
    let execution = host.runtime.execute(ExecutionRequest::new(name("mallory"), workload).budget(budget)).await;
    assert_eq!(exceeded(&execution), BudgetName::WallMs);
    // In a debug build on a busy machine; by fuel alone it would be a minute.
    assert!(execution.record.usage.get("wall_ms").unwrap() < 8_000, "{:?}", execution.record.usage);
    host.assert_nothing_held().await;
}
