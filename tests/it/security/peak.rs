//! The memory of a whole host process while a guest sends it all that it can.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::guests::Guest;
use crate::command::{Place, peak_bytes};

const MIB: u64 = 1 << 20;

/// What an execution may have by default.
const GUEST_BYTES: u64 = 256 * MIB;

/// The program itself, the compiler at work, threads, records.
const PROCESS_BYTES: u64 = 128 * MIB;

/// What the host holds of one call at most: the arguments once as the guest's contract has them, and once as the
/// backend's types do.
const CALL_BYTES: u64 = 2 * GUEST_BYTES;

/// Runs a guest in a process of its own; gives the most memory that it held.
fn run(guest: &Guest) -> u64 {
    let place = Place::new();
    let workload = place.file("workload.wasm", guest.bytes());
    let mut command = place.exec_command(&workload, &["--input", "x", "--json"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut peak, began) = (0, Instant::now());
    loop {
        if let Some(bytes) = peak_bytes(&child) {
            peak = peak.max(bytes);
        }
        if let Some(status) = child.try_wait().unwrap() {
            // Completed, or ended by a budget or a trap; never by a signal, never a failure of the host.
            assert!(matches!(status.code(), Some(0 | 4 | 5)), "{status:?}");
            return peak;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn assert_bounded(what: &str, guest: &Guest) {
    let peak = run(guest);
    assert!(peak > 0 && peak <= GUEST_BYTES + CALL_BYTES + PROCESS_BYTES, "{what}: {} MiB", peak / MIB);
}

const LEN: u32 = 200 << 20;

/// A text of 200 MiB for whoever takes one.
#[test]
fn the_longest_texts_are_held_once_and_denied() {
    let fill = format!("(memory.fill (i32.const 65536) (i32.const 120) (i32.const {LEN})) ");
    let text = format!("(i32.const 65536) (i32.const {LEN})");
    let short = "(i32.const 65536) (i32.const 1)";
    for (what, import, call) in [
        ("start", "start", format!("(call $start {short} {text} (i32.const 16))")),
        ("publish", "publish", format!("(call $publish {short} {text} (i32.const 16))")),
        ("name", "publish", format!("(call $publish {text} {short} (i32.const 16))")),
        ("log", "log", format!("(call $log (i32.const 0) {text} (i32.const 16))")),
        ("emit", "emit", format!("(call $emit {short} {text} (i32.const 16))")),
        ("config", "config", format!("(call $config {text} (i32.const 16))")),
        ("resolve", "resolve", format!("(call $resolve {text} (i32.const 16))")),
        (
            "schema",
            "complete",
            format!(
                "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
                 (i32.store8 (i32.const 1080) (i32.const 1)) (i32.store (i32.const 1084) (i32.const 65536))
                 (i32.store (i32.const 1088) (i32.const {LEN})) (call $complete (i32.const 1024) (i32.const 16))"
            ),
        ),
    ] {
        assert_bounded(what, &Guest::new(&[import], format!("{fill} {call}")).pages(3_300));
    }
    let output = format!("{fill} (local.set $ptr (i32.const 65536)) (local.set $len (i32.const {LEN}))");
    assert_bounded("output", &Guest::new(&[], output).pages(3_300));
}

/// Lists of as many empty things as the guest has room for: each takes more on the host than in the guest.
#[test]
fn the_longest_lists_of_nothing_are_bounded() {
    for (what, import, size, call) in [
        ("handles", "poll", 4, "(call $poll (i32.const 65536) (i32.const {n}) (i32.const 16))"),
        (
            "requests",
            "wait",
            4,
            "(call $wait (i32.const 65536) (i32.const {n}) (i32.const 0) (i64.const 0) (i32.const 16))",
        ),
        (
            "messages",
            "complete",
            12,
            "(i32.store (i32.const 1024) (i32.const 65536)) (i32.store (i32.const 1028) (i32.const {n})) (call $complete (i32.const 1024) (i32.const 16))",
        ),
        (
            "stops",
            "complete",
            8,
            "(i32.store (i32.const 1064) (i32.const 65536)) (i32.store (i32.const 1068) (i32.const {n})) (call $complete (i32.const 1024) (i32.const 16))",
        ),
        (
            "tools",
            "complete",
            24,
            "(i32.store (i32.const 1072) (i32.const 65536)) (i32.store (i32.const 1076) (i32.const {n})) (call $complete (i32.const 1024) (i32.const 16))",
        ),
    ] {
        // As many as fit, and about as many as the host will take.
        for count in [LEN / size, LEN / 32, LEN / 80] {
            let call = call.replace("{n}", &count.to_string());
            assert_bounded(&format!("{count} {what}"), &Guest::new(&[import], call).pages(3_300));
        }
    }
}
