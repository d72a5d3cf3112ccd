//! What one execution leaves for the next in the same slots of the pool, and handles that are not the guest's own.

use std::time::Duration;

use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::{ExecutionRequest, Runtime};

use super::guests::Guest;
use super::{attack_with, beside_a_neighbour, request};
use crate::support::{Host, name};

/// Fills all that a guest has with what can be found again: memory beyond what the pool keeps resident, a table, a
/// global, and its stack.
const SOIL: &str = "(memory.fill (i32.const 131072) (i32.const 170) (i32.const 3932160))
    (table.fill $t (i32.const 0) (ref.func $f) (i32.const 50000))
    (global.set $g (i64.const 0x5ec2e75ec2e75ec2))
    (call $stack (i32.const 200))";

/// Traps, in a way that is found in the outcome, if it finds anything in what is its own.
const SEARCH: &str = "(local.set $n (i32.const 131072))
    (loop $l (if (i64.ne (i64.load (local.get $n)) (i64.const 0)) (then (unreachable)))
      (local.set $n (i32.add (local.get $n) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $n) (i32.const 4063232))))
    (local.set $n (i32.const 0))
    (loop $l (if (i32.eqz (ref.is_null (table.get $t (local.get $n)))) (then (unreachable)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $n) (i32.const 50000))))
    (if (i64.ne (global.get $g) (i64.const 0)) (then (unreachable)))
    (call $fresh (i32.const 200))";

/// Functions with many locals, one of which sets them and one of which reads them before it sets any.
fn items() -> String {
    let locals = format!("(local {})", "i64 ".repeat(64));
    let set: String =
        (1..=64).map(|n| format!("(local.set {n} (i64.xor (i64.const {n}) (i64.const 0x5ec2e75ec2e75ec2)))")).collect();
    let keep: String = (1..=64).map(|n| format!("(i64.store (i32.const 8192) (local.get {n}))")).collect();
    let look: String =
        (1..=64).map(|n| format!("(if (i64.ne (local.get {n}) (i64.const 0)) (then (unreachable)))")).collect();
    let deeper = |name: &str| format!("(if (local.get 0) (then (call ${name} (i32.sub (local.get 0) (i32.const 1)))))");
    format!(
        "(table $t 50000 funcref) (global $g (mut i64) (i64.const 0)) (func $f) (elem declare func $f)
         (func $stack (param i32) {locals} {set} {} {keep})
         (func $fresh (param i32) {locals} {look} {})",
        deeper("stack"),
        deeper("fresh")
    )
}

/// Ways to end after the soiling.
fn endings() -> Vec<(&'static str, Guest)> {
    let guest = |imports: &[&str], end: &str| Guest::new(imports, format!("{SOIL} {end}")).pages(64).with(items());
    vec![
        ("completed", guest(&[], "")),
        (
            "guest_error",
            guest(
                &[],
                "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (local.get $ptr)) (i32.store (i32.const 8) (local.get $len)) (return (i32.const 0))",
            ),
        ),
        ("trapped", guest(&[], "(unreachable)")),
        ("trapped", guest(&[], "(i64.store (i32.const -8) (i64.const 0))")),
        (
            "trapped",
            Guest::new(&[], format!("{SOIL} (call $f)"))
                .pages(64)
                .with(items().replace("(func $f)", "(func $f (call $f))")),
        ),
        ("budget_exceeded", guest(&[], "(loop $l (br $l))")),
        ("budget_exceeded", guest(&[], "(drop (memory.grow (i32.const 5000)))")),
        ("cancelled", guest(&["timer", "block"], "(call $block (call $timer (i64.const 360000000000000)))")),
        ("cancelled", guest(&["now"], "(loop $l (drop (call $now)) (br $l))")),
        ("dropped", guest(&["timer", "block"], "(call $block (call $timer (i64.const 360000000000000)))")),
        ("dropped", guest(&["now"], "(loop $l (drop (call $now)) (br $l))")),
    ]
}

#[tokio::test]
async fn nothing_is_left_in_a_slot_after_any_ending() {
    // One slot of each kind, so that whoever comes next has the one before's.
    let runtime = Runtime::builder().executions_max(1).guest_threads(2).cache_dir(crate::support::cache_dir()).build();
    let runtime = runtime.unwrap();
    let take = |guest: &Guest| runtime.intake(&guest.bytes()).unwrap();
    let search = take(&Guest::new(&[], SEARCH).pages(64).with(items()));
    // It does find what there is.
    let own = take(&Guest::new(&[], format!("{SOIL} {SEARCH}")).pages(64).with(items()));
    let execution = runtime.execute(ExecutionRequest::new(name("bob"), own)).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
    for (ending, guest) in endings() {
        let soiler = take(&guest);
        for _ in 0..4 {
            let fuel = if ending == "budget_exceeded" { 30_000_000 } else { 10_000_000_000 };
            let budget = Budget::default().with(BudgetName::Fuel, fuel);
            let request = ExecutionRequest::new(name("alice"), soiler.clone()).input("x").budget(budget);
            let cancellation = request.cancellation.clone();
            let run = runtime.execute(request);
            let moment = Duration::from_millis(15);
            match ending {
                "dropped" => drop(tokio::time::timeout(moment, run).await),
                "cancelled" => {
                    let stop = async {
                        tokio::time::sleep(moment).await;
                        cancellation.cancel();
                    };
                    let (execution, ()) = tokio::join!(run, stop);
                    assert_eq!(execution.record.outcome, Outcome::Cancelled);
                }
                ending => assert_eq!(run.await.record.outcome.kind(), ending),
            }
            let request = ExecutionRequest::new(name("bob"), search.clone()).input("x");
            let execution = runtime.execute(request).await;
            assert_eq!(execution.record.outcome, Outcome::Completed, "{ending}: {:?}", execution.record.error);
        }
    }
}

/// A request with one message of one text, at 1024.
const REQUEST: &str = "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
    (i32.store8 (i32.const 1200) (i32.const 1))
    (i32.store (i32.const 1204) (i32.const 1300)) (i32.store (i32.const 1208) (i32.const 1))
    (i32.store (i32.const 1304) (i32.const 2048)) (i32.store (i32.const 1308) (i32.const 1))";

/// A kind of handle.
struct Kind(
    /// Its name.
    &'static str,
    /// The host functions that make one and drop it.
    [&'static str; 2],
    /// Makes one.
    &'static str,
    /// Drops it.
    &'static str,
    /// Every call that takes one.
    &'static [(&'static str, &'static str)],
);

/// Of each kind the handle is in `$h`.
const KINDS: &[Kind] = &[
    Kind(
        "call",
        ["start", "drop-call"],
        "(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16)) (local.set $h (i32.load (i32.const 24)))",
        "(call $drop-call (local.get $h))",
        &[
            (
                "child",
                "(call $child (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))",
            ),
            (
                "attribute",
                "(call $attribute (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))",
            ),
            ("finish", "(call $finish (local.get $h) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))"),
            ("reference", "(call $reference (local.get $h) (i32.const 16))"),
        ],
    ),
    Kind(
        "pending",
        ["submit", "drop-pending"],
        "(call $submit (i32.const 1024) (i32.const 16)) (local.set $h (i32.load (i32.const 24)))",
        "(call $drop-pending (local.get $h))",
        &[
            ("get", "(call $get (local.get $h) (i32.const 16))"),
            (
                "wait",
                "(i32.store (i32.const 512) (local.get $h)) (call $wait (i32.const 512) (i32.const 1) (i32.const 1) (i64.const 0) (i32.const 16))",
            ),
        ],
    ),
    Kind(
        "completion",
        ["stream", "drop-completion"],
        "(call $stream (i32.const 1024) (i32.const 16)) (local.set $h (i32.load (i32.const 24)))",
        "(call $drop-completion (local.get $h))",
        &[("next", "(call $next (local.get $h) (i32.const 16))")],
    ),
    Kind(
        "pollable",
        ["timer", "drop-pollable"],
        "(local.set $h (call $timer (i64.const 0)))",
        "(call $drop-pollable (local.get $h))",
        &[
            ("ready", "(drop (call $ready (local.get $h)))"),
            ("block", "(call $block (local.get $h))"),
            (
                "poll",
                "(i32.store (i32.const 512) (local.get $h)) (call $poll (i32.const 512) (i32.const 1) (i32.const 16))",
            ),
        ],
    ),
    Kind(
        "output-stream",
        ["stdout", "drop-output"],
        "(local.set $h (call $stdout))",
        "(call $drop-output (local.get $h))",
        &[
            ("check-write", "(call $check-write (local.get $h) (i32.const 16))"),
            ("write", "(call $write (local.get $h) (i32.const 0) (i32.const 0) (i32.const 16))"),
            ("subscribe", "(drop (call $subscribe (local.get $h)))"),
        ],
    ),
    Kind(
        "input-stream",
        ["stdin", "drop-input"],
        "(local.set $h (call $stdin))",
        "(call $drop-input (local.get $h))",
        &[("read", "(call $read (local.get $h) (i64.const 1) (i32.const 16))")],
    ),
];

/// Every call with a handle of another kind, one that was dropped, one that was never given, and one dropped twice.
#[tokio::test]
async fn handles_that_are_not_the_guests_are_traps() {
    let host = Host::with(|builder| builder.executions_max(2));
    let guest = |imports: &[&str], body: String| {
        Guest::new(imports, format!("{REQUEST} {body}")).with("(data (i32.const 2048) \"x\")")
    };
    let mut guests = Vec::new();
    for Kind(kind, [maker, dropper], make, drop, calls) in KINDS {
        guests.push((format!("{kind} dropped twice"), guest(&[maker, dropper], format!("{make} {drop} {drop}"))));
        for (call, body) in *calls {
            guests.push((
                format!("{call} of a dropped {kind}"),
                guest(&[maker, dropper, call], format!("{make} {drop} {body}")),
            ));
            for forged in ["0", "1", "2", "77", "-1", "268435456"] {
                let body = format!("(local.set $h (i32.const {forged})) {body}");
                guests.push((format!("{call} of {forged}"), guest(&[call], body)));
            }
            for Kind(foreign, [maker, _], make, ..) in KINDS {
                if foreign != kind {
                    guests.push((format!("{call} of a {foreign}"), guest(&[maker, call], format!("{make} {body}"))));
                }
            }
        }
        for forged in ["0", "1", "-1"] {
            let body = format!("(local.set $h (i32.const {forged})) {drop}");
            guests.push((format!("drop of {forged} as a {kind}"), guest(&[dropper], body)));
        }
    }
    beside_a_neighbour(&host, async {
        for (what, guest) in guests {
            let execution = host.runtime.execute(request(&host, "mallory", &guest)).await;
            assert_eq!(execution.record.outcome, Outcome::Trapped, "{what}: {:?}", execution.record.error);
            let error = execution.record.error.unwrap();
            assert!(error.contains("handle") || error.contains("resource"), "{what}: {error}");
        }
    })
    .await;
}

/// A stream that is dropped while a pollable of it is held, and a call whose parent has gone.
#[tokio::test]
async fn children_that_outlive_their_parents_are_answered_or_traps() {
    let host = Host::with(|builder| builder.executions_max(2));
    for (imports, body) in [
        (
            &["stdout", "subscribe", "drop-output", "block"][..],
            "(local.set $h (call $stdout)) (local.set $n (call $subscribe (local.get $h)))
             (call $drop-output (local.get $h)) (call $block (local.get $n))",
        ),
        (
            &["start", "child", "drop-call", "finish"],
            "(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
             (local.set $h (i32.load (i32.const 24)))
             (call $child (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
             (call $drop-call (local.get $h))
             (call $finish (i32.load (i32.const 24)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))",
        ),
    ] {
        let guest = Guest::new(imports, body).with("(data (i32.const 2048) \"x\")");
        let execution = attack_with(&host, request(&host, "mallory", &guest)).await;
        let ends = matches!(execution.record.outcome, Outcome::Trapped | Outcome::Completed);
        assert!(ends, "{body}: {:?}", execution.record.error);
    }
}
