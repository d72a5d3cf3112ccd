//! Ctrl-C, and processes that end without a word.

use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::command::{Ended, Place, Running, eventually};
use crate::support::first;

/// Says that it is there, then does something.
fn there_then(action: Value) -> Value {
    json!({ "do": "sequence", "steps": [{ "do": "log", "level": "info", "message": "it runs" }, action] })
}

#[test]
fn ctrl_c_ends_the_execution_with_its_record() {
    let place = Place::new();
    // As service managers and closing terminals do.
    let ways = [("sleep_forever", Signal::INT), ("spin", Signal::TERM), ("wait_cancel", Signal::HUP)];
    for (action, signal) in ways {
        let mut running = Running::start(place.act_command(&there_then(json!({ "do": action })), &[]));
        running.until("it runs");
        running.signal(signal);
        let ended = running.end().with_status(130).saying("error: cancelled\n").saying("cancelled in ");
        // A guest that looks has a moment to say something.
        assert!(ended.text().is_empty() || ended.text().contains("\"cancelled\":true"), "{}", ended.text());
    }
    let records = place.records();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record["outcome"]["kind"] == "cancelled"), "{records:?}");
}

/// A long compilation does not hold up the end. It is that of one function, which no number of cores makes short.
#[test]
fn ctrl_c_ends_a_compilation() {
    let place = Place::new();
    let step = "(local.set $x (i32.xor (local.get $x) (i32.load (i32.shl (local.get $x) (i32.const 3)))))";
    let long = format!("(func (param $x i32) (result i32) {} (local.get $x))", step.repeat(100_000));
    let long = place.file("long.wasm", wat::parse_str(first(&long, "")).unwrap());
    let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "cache"]);
    command.arg(long);
    let mut running = Running::start(command);
    running.until("compiling ");
    running.signal(Signal::INT);
    running.end().with_status(130).saying("error: cancelled\n");
    let record = place.records().pop().unwrap();
    assert_eq!((&record["outcome"]["kind"], &record["usage"]["fuel"]), (&json!("cancelled"), &json!(0)));
    assert!(!place.files("cache").iter().any(|file| ends_in(file, "cwasm")), "it waited for the compiler");
}

/// Whatever it is that the process waits for: here for a reader of its output.
#[test]
fn a_second_ctrl_c_ends_the_process() {
    let place = Place::new();
    let mut running = Running::start(place.act_command(&json!({ "do": "big_output", "bytes": 1 << 20 }), &[]));
    eventually(|| place.files("data").iter().any(|file| ends_in(file, "json")));
    assert_eq!(running.wait(|running| running.signal(Signal::INT)), Some(130));
}

/// What is left of it does not keep the next run from anything.
#[test]
fn a_process_that_was_killed_leaves_nothing_in_the_way() {
    let place = Place::new();
    let command = || {
        let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "cache"]);
        command.args([holm_test_artifacts::PROBE, "--input"]);
        command
    };
    let mut compiling = command();
    compiling.arg("{}").stdout(Stdio::null()).stderr(Stdio::null());
    let mut compiling = compiling.spawn().unwrap();
    eventually(|| place.path("cache/compiled").exists());
    compiling.kill().unwrap();
    compiling.wait().unwrap();

    let mut sleeping = command();
    sleeping.arg(there_then(json!({ "do": "sleep_forever" })).to_string());
    let mut sleeping = Running::start(sleeping);
    sleeping.until("it runs");
    sleeping.signal(Signal::KILL);
    assert_eq!(sleeping.end().status, None);
    assert!(place.records().is_empty(), "nothing half done");
    // As if it had been killed while it wrote.
    for file in place.files("cache") {
        std::fs::write(file.with_extension("cwasm.half.tmp"), "half").unwrap();
    }

    let mut next = command();
    let ended = Ended::of(next.arg(json!({ "do": "echo", "value": 1 }).to_string()).output().unwrap());
    assert_eq!((ended.with_status(0).text(), place.records().len()), ("1", 1));
}

fn ends_in(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|it| it == ending)
}
