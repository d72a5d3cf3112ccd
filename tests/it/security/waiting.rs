//! Timers and polls: waiting is no compute, and compute cannot hide in waiting.

use holm_host_api::{Budget, BudgetName, Outcome};

use super::guests::{Guest, times};
use super::{attack, attack_with, request};
use crate::support::{Host, exceeded};

/// A hundred hours, in nanoseconds.
const LONG: &str = "(i64.const 360000000000000)";

#[tokio::test]
async fn sleeping_and_polling_for_ever_ends_by_the_clock_and_costs_no_fuel() {
    let host = Host::with(|builder| builder.guest_threads(1));
    let store = format!("(i32.store (i32.const 4096) (call $timer {LONG}))");
    for (imports, body) in [
        (&["timer", "block"][..], format!("(call $block (call $timer {LONG}))")),
        (&["timer", "poll"], format!("{store} (call $poll (i32.const 4096) (i32.const 1) (i32.const 16))")),
        (&["timer", "block"], "(call $block (call $timer (i64.const -1)))".to_owned()),
    ] {
        let budget = Budget::default().with(BudgetName::WallMs, 300);
        let execution =
            attack_with(&host, request(&host, "mallory", &Guest::new(imports, &*body)).budget(budget)).await;
        assert_eq!(exceeded(&execution), BudgetName::WallMs, "{body}");
        let usage = &execution.record.usage;
        assert!(usage.get("fuel").unwrap() < 100_000, "{body}: {usage:?}");
        assert!(usage.get("cpu_ms").unwrap() < 150, "{body}: {usage:?}");
    }
}

#[tokio::test]
async fn timers_by_the_ten_thousand_run_out_of_handles() {
    let host = Host::new();
    let guest = Guest::new(&["timer"], times(20_000, &format!("(drop (call $timer {LONG}))")));
    assert_eq!(exceeded(&attack(&host, &guest).await), BudgetName::Handles);
    let guest = Guest::new(&["stdout", "subscribe"], times(20_000, "(drop (call $subscribe (call $stdout)))"));
    assert_eq!(exceeded(&attack(&host, &guest).await), BudgetName::Handles);
    // As many as may be, each for a moment, over and over: by fuel.
    let wait = "(local.set $h (call $timer (i64.const 1000))) (call $block (local.get $h))
        (call $drop-pollable (local.get $h))";
    let budget = Budget::default().with(BudgetName::HostCalls, 3_000);
    let guest = Guest::endless(&["timer", "block", "drop-pollable"], wait);
    let execution = attack_with(&host, request(&host, "mallory", &guest).budget(budget)).await;
    assert_eq!(exceeded(&execution), BudgetName::HostCalls);
}

/// A guest that computes a little between polls that do not wait is billed for all of it.
#[tokio::test]
async fn compute_between_polls_is_billed() {
    let host = Host::with(|builder| builder.guest_threads(1));
    for nanoseconds in [0, 1, 100_000] {
        let body = format!(
            "(local.set $n (i32.const 2000))
             (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (local.set $h (call $timer (i64.const {nanoseconds}))) (call $block (local.get $h))
             (call $drop-pollable (local.get $h))"
        );
        let guest = Guest::endless(&["timer", "block", "drop-pollable"], &body);
        let budget = Budget::default().with(BudgetName::Fuel, 5_000_000);
        let execution = attack_with(&host, request(&host, "mallory", &guest).budget(budget)).await;
        assert_eq!(exceeded(&execution), BudgetName::Fuel, "{nanoseconds}");
        // Each turn of the loop is 2,000 turns of four instructions.
        let host_calls = execution.record.usage.get("host_calls").unwrap();
        assert!(host_calls / 3 * 8_000 <= 5_000_000 + 8_000, "{host_calls}");
    }
}

/// A poll of nothing, of a handle that is none, and of one that is gone.
#[tokio::test]
async fn polls_that_make_no_sense_are_traps() {
    let host = Host::new();
    for (imports, body) in [
        (&["poll"][..], "(call $poll (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["poll"], "(call $poll (i32.const 4096) (i32.const 1) (i32.const 16))"),
        (
            &["timer", "drop-pollable", "poll"],
            "(i32.store (i32.const 4096) (call $timer (i64.const 0)))
             (call $drop-pollable (i32.load (i32.const 4096)))
             (call $poll (i32.const 4096) (i32.const 1) (i32.const 16))",
        ),
    ] {
        let execution = attack(&host, &Guest::new(imports, body)).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped, "{body}: {:?}", execution.record.error);
    }
}

/// A poll costs what it polls.
#[tokio::test]
async fn a_poll_of_many_costs_as_many_calls() {
    let host = Host::with(|builder| builder.guest_threads(1));
    let fill = times(
        450,
        "(i32.store (i32.add (i32.const 2048) (i32.shl (local.get $i) (i32.const 2))) (call $timer (i64.const 0)))",
    );
    let poll = "(call $poll (i32.const 2048) (i32.const 450) (i32.const 16))";
    let guest = Guest::new(&["timer", "poll"], format!("{fill} (loop $l {poll} (br $l))"));
    let execution = attack(&host, &guest).await;
    assert_eq!(exceeded(&execution), BudgetName::Fuel);
    let polls = execution.record.usage.get("host_calls").unwrap() - 450;
    assert!(polls * 450 * 500 <= 31_000_000, "{polls} polls");
    // The same one by a million names.
    let store = "(i32.store (i32.add (i32.const 65536) (i32.shl (local.get $i) (i32.const 2))) (local.get $h))";
    let fill = times(1_000_000, store);
    let body = format!(
        "(local.set $h (call $timer (i64.const 0))) {fill}
         (call $poll (i32.const 65536) (i32.const 1000000) (i32.const 16))"
    );
    let execution = attack(&host, &Guest::new(&["timer", "poll"], body).pages(100)).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped, "{:?}", execution.record.error);
}
