//! Pointers and lengths that a guest hands to the host: to nowhere, beyond the end, not UTF-8, out of range.

use holm_host_api::{Budget, BudgetName, Outcome};

use super::guests::Guest;
use super::{attack_with, beside_a_neighbour, request};
use crate::support::Host;

/// Calls with a text or list at `{ptr}` of `{len}`, and a result at `{ret}`.
const CALLS: &[(&[&str], &str)] = &[
    (&["emit"], "(call $emit {ptr} {len} (i32.const 0) (i32.const 0) {ret})"),
    (&["emit"], "(call $emit (i32.const 0) (i32.const 0) {ptr} {len} {ret})"),
    (&["progress"], "(call $progress (i64.const 0) (i32.const 0) (i64.const 0) {ptr} {len} {ret})"),
    (&["log"], "(call $log (i32.const 0) {ptr} {len} {ret})"),
    (&["config"], "(call $config {ptr} {len} {ret})"),
    (&["start"], "(call $start {ptr} {len} (i32.const 0) (i32.const 0) {ret})"),
    (&["start"], "(call $start (i32.const 0) (i32.const 1) {ptr} {len} {ret})"),
    (&["publish"], "(call $publish {ptr} {len} (i32.const 0) (i32.const 0) {ret})"),
    (&["publish"], "(call $publish (i32.const 0) (i32.const 0) {ptr} {len} {ret})"),
    (&["resolve"], "(call $resolve {ptr} {len} {ret})"),
    (&["feedback"], "(call $feedback {ptr} {len} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) {ret})"),
    (&["feedback"], "(call $feedback (i32.const 0) (i32.const 0) {ptr} {len} (i32.const 0) (i32.const 0) {ret})"),
    (&["feedback"], "(call $feedback (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) {ptr} {len} {ret})"),
    (&["embed"], "(call $embed (i32.const 1) {ptr} {len} (i32.const 0) (i32.const 0) {ret})"),
    (&["embed"], "(call $embed (i32.const 0) (i32.const 0) (i32.const 0) {ptr} {len} {ret})"),
    (&["wait"], "(call $wait {ptr} {len} (i32.const 0) (i64.const 0) {ret})"),
    (&["poll"], "(call $poll {ptr} {len} {ret})"),
    (&["stdout", "write"], "(call $write (call $stdout) {ptr} {len} {ret})"),
    (&["stdout", "write-flush"], "(call $write-flush (call $stdout) {ptr} {len} {ret})"),
    // A request: its messages, its model, what stops it, its tools, its schema.
    (&["complete"], "(i32.store (i32.const 1024) {ptr}) (i32.store (i32.const 1028) {len}) (call $complete (i32.const 1024) {ret})"),
    (
        &["complete"],
        "(i32.store (i32.const 1036) (i32.const 1)) (i32.store (i32.const 1040) {ptr}) (i32.store (i32.const 1044) {len})
         (call $complete (i32.const 1024) {ret})",
    ),
    (&["submit"], "(i32.store (i32.const 1064) {ptr}) (i32.store (i32.const 1068) {len}) (call $submit (i32.const 1024) {ret})"),
    (&["stream"], "(i32.store (i32.const 1072) {ptr}) (i32.store (i32.const 1076) {len}) (call $stream (i32.const 1024) {ret})"),
    (
        &["complete"],
        "(i32.store8 (i32.const 1080) (i32.const 1)) (i32.store (i32.const 1084) {ptr}) (i32.store (i32.const 1088) {len})
         (call $complete (i32.const 1024) {ret})",
    ),
];

fn calls<'a>(ptr: &'a str, len: &'a str, ret: &'a str) -> impl Iterator<Item = Guest> + 'a {
    let fill = move |text: &str| {
        text.replace("{ptr}", &format!("(i32.const {ptr})"))
            .replace("{len}", &format!("(i32.const {len})"))
            .replace("{ret}", &format!("(i32.const {ret})"))
    };
    CALLS.iter().map(move |(imports, body)| Guest::new(imports, fill(body)))
}

#[tokio::test]
async fn bad_pointers_in_every_argument_are_traps() {
    let host = Host::new();
    // The guest has two pages.
    let bad = [
        // Beyond the memory, over its end, over the end of all addresses, longer than any.
        ("-16", "8", "16"),
        ("131068", "8", "16"),
        ("-1", "-1", "16"),
        ("0", "-1", "16"),
    ];
    beside_a_neighbour(&host, async {
        for (ptr, len, ret) in bad {
            for guest in calls(ptr, len, ret) {
                let execution = host.runtime.execute(request(&host, "mallory", &guest)).await;
                assert_eq!(execution.record.outcome, Outcome::Trapped, "{ptr} {len}: {:?}", execution.record.error);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bad_places_for_results_are_traps() {
    let host = Host::new();
    beside_a_neighbour(&host, async {
        // Nowhere, over the end, and between two places.
        for ret in ["-8", "131068", "17"] {
            for guest in calls("0", "0", ret) {
                let execution = host.runtime.execute(request(&host, "mallory", &guest)).await;
                // `poll` of nothing is one in any case.
                assert_eq!(execution.record.outcome, Outcome::Trapped, "{ret}: {:?}", execution.record.error);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn text_that_is_none_is_a_trap() {
    let host = Host::new();
    beside_a_neighbour(&host, async {
        for guest in calls("4096", "4", "16") {
            // Half a character, then a surrogate.
            let guest = guest.with("(data (i32.const 4096) \"\\c3\\ed\\a0\\80\")");
            let execution = host.runtime.execute(request(&host, "mallory", &guest)).await;
            // Bytes may be any; a list of these is one of handles or texts far away.
            let ends = matches!(execution.record.outcome, Outcome::Trapped | Outcome::Completed);
            assert!(ends, "{:?}", execution.record.error);
        }
    })
    .await;
    for (imports, body) in [
        (&["log"][..], "(call $log (i32.const 0) (i32.const 4096) (i32.const 4) (i32.const 16))"),
        (&["resolve"], "(call $resolve (i32.const 4096) (i32.const 4) (i32.const 16))"),
    ] {
        let guest = Guest::new(imports, body).with("(data (i32.const 4096) \"\\c3\\ed\\a0\\80\")");
        let execution = attack_with(&host, request(&host, "mallory", &guest)).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped);
        assert!(execution.record.error.unwrap().contains("utf-8"));
    }
}

#[tokio::test]
async fn numbers_that_name_nothing_are_traps() {
    let host = Host::new();
    for (imports, body) in [
        // A level, a role, a kind of part, a presence and a result that do not exist; a character that is none.
        (&["log"][..], "(call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (&["log"], "(call $log (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 16))"),
        (
            &["progress"],
            "(call $progress (i64.const 0) (i32.const 2) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 16))",
        ),
        (
            &["complete"],
            "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
             (i32.store8 (i32.const 1200) (i32.const 200)) (call $complete (i32.const 1024) (i32.const 16))",
        ),
        (
            &["complete"],
            "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
             (i32.store (i32.const 1204) (i32.const 1300)) (i32.store (i32.const 1208) (i32.const 1))
             (i32.store8 (i32.const 1300) (i32.const 6)) (call $complete (i32.const 1024) (i32.const 16))",
        ),
        (&["complete"], "(i32.store8 (i32.const 1032) (i32.const 7)) (call $complete (i32.const 1024) (i32.const 16))"),
        // A request that lies over the end of the memory.
        (&["complete"], "(call $complete (i32.const 131040) (i32.const 16))"),
        (&["complete"], "(call $complete (i32.const -4) (i32.const 16))"),
        (&["complete"], "(call $complete (i32.const 1026) (i32.const 16))"),
    ] {
        let execution = attack_with(&host, request(&host, "mallory", &Guest::new(imports, body))).await;
        assert_eq!(execution.record.outcome, Outcome::Trapped, "{body}: {:?}", execution.record.error);
    }
}

/// A temperature that is no number, and numbers at their ends.
#[tokio::test]
async fn numbers_at_their_ends_are_answered() {
    let host = Host::new();
    let message = "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
        (i32.store8 (i32.const 1200) (i32.const 1))";
    let degrees = ["nan", "inf", "-inf", "-0", "3e38", "2"].map(|degrees| {
        format!(
            "{message} (i32.store8 (i32.const 1056) (i32.const 1)) (f32.store (i32.const 1060) (f32.const {degrees}))
            (call $complete (i32.const 1024) (i32.const 16))"
        )
    });
    let tokens = [0, 1, -1].map(|tokens| {
        format!(
            "{message} (i32.store8 (i32.const 1048) (i32.const 1)) (i32.store (i32.const 1052) (i32.const {tokens}))
            (call $complete (i32.const 1024) (i32.const 16))"
        )
    });
    for body in degrees.into_iter().chain(tokens) {
        let execution = attack_with(&host, request(&host, "mallory", &Guest::new(&["complete"], &*body))).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{body}: {:?}", execution.record.error);
    }
    let progress =
        "(call $progress (i64.const -1) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 16))";
    let wait = "(call $wait (i32.const 0) (i32.const 0) (i32.const 1) (i64.const -1) (i32.const 16))";
    for (import, body) in [("progress", progress), ("wait", wait)] {
        let execution = attack_with(&host, request(&host, "mallory", &Guest::new(&[import], body))).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{body}: {:?}", execution.record.error);
    }
}

#[tokio::test]
async fn outputs_that_are_too_large_or_lie_are_ends() {
    let host = Host::new();
    // The last bytes of the memory are an output like any other; one byte more is nowhere.
    for (ptr, len, outcome) in [
        (131_071, 1, Outcome::Completed),
        (131_072, 0, Outcome::Completed),
        (131_071, 2, Outcome::Trapped),
        (-1, 0, Outcome::Trapped),
        (-1, 1, Outcome::Trapped),
        (65_536, -65_536, Outcome::Trapped),
        (1, -1, Outcome::Trapped),
    ] {
        let body = format!("(local.set $ptr (i32.const {ptr})) (local.set $len (i32.const {len}))");
        let execution = attack_with(&host, request(&host, "mallory", &Guest::new(&[], body))).await;
        assert_eq!(execution.record.outcome, outcome, "{ptr} {len}: {:?}", execution.record.error);
    }
    let body = "(local.set $ptr (i32.const 65536)) (local.set $len (i32.const 60000000))";
    let budget = Budget::default().with(BudgetName::OutputBytes, 1_000_000);
    let request = request(&host, "mallory", &Guest::new(&[], body).pages(1_000)).budget(budget);
    let execution = attack_with(&host, request).await;
    assert_eq!(crate::support::exceeded(&execution), BudgetName::OutputBytes);
    assert!(execution.output.is_empty());
}
