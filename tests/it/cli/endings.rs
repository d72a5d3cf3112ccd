//! How a run ends: its exit status, what is on stdout and on stderr, and the record.

use std::collections::BTreeSet;
use std::process::Stdio;

use holm_host_api::BudgetName;
use serde_json::{Value, json};

use crate::command::{Ended, Place};

/// An action, options, and how it ends: exit status, outcome, output, and the beginning of the error.
struct Case {
    action: Value,
    options: &'static [&'static str],
    status: i32,
    kind: &'static str,
    output: Value,
    error: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |action, options, status, kind, output, error| Case { action, options, status, kind, output, error };
    vec![
        case(json!({ "do": "echo", "value": "hi" }), &[], 0, "completed", json!("\"hi\""), None),
        case(json!({ "do": "fail", "message": "no luck" }), &[], 1, "guest_error", json!(""), Some("no luck")),
        case(json!({ "do": "echo" }), &["--grant", "none"], 3, "refused", json!(null), Some("not granted: ")),
        case(
            json!({ "do": "spin" }),
            &["--fuel", "9M"],
            4,
            "budget_exceeded",
            json!(""),
            Some("budget exceeded: fuel, limit 9000000, used 9000000"),
        ),
        case(
            json!({ "do": "unreachable" }),
            &[],
            5,
            "trapped",
            json!(""),
            Some("wasm `unreachable` instruction executed"),
        ),
    ]
}

#[test]
fn each_outcome_has_its_exit_status_and_its_error() {
    let place = Place::new();
    for Case { action, options, status, output, error, .. } in cases() {
        let ended = place.act(&action, options).with_status(status);
        assert_eq!(ended.text(), output.as_str().unwrap_or_default());
        match error {
            Some(error) => drop(ended.saying(&format!("error: {error}"))),
            None => assert!(!ended.stderr.contains("error")),
        }
    }
}

#[test]
fn each_outcome_has_its_record() {
    let place = Place::new();
    for Case { action, options, status, kind, output, error, .. } in cases() {
        let ended = place.act(&action, &[options, &["--json"]].concat()).with_status(status);
        let record = ended.json();
        assert_eq!(
            keys(&record),
            BTreeSet::from(["execution", "user", "workload", "started_at", "outcome", "output", "error", "usage"])
        );
        assert_eq!(record["execution"].as_str().unwrap().parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
        assert_eq!(record["user"], "alice");
        assert!(record["workload"]["digest"].as_str().unwrap().starts_with("sha256:"));
        assert_eq!(record["outcome"]["kind"], kind);
        assert_eq!(record["output"], output);
        assert_eq!(record["error"].is_null(), error.is_none());
        assert!(record["error"].as_str().unwrap_or_default().starts_with(error.unwrap_or_default()), "{record}");
        assert!(ended.stderr.is_empty(), "the error is in the record: {}", ended.stderr);
        assert_usage(&record["usage"], kind != "refused");
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// One entry a budget, and a few that no budget limits.
fn assert_usage(usage: &Value, ran: bool) {
    let budgets = BudgetName::ALL.iter().map(|name| name.as_str()).filter(|name| *name != "memory_bytes");
    let more = ["memory_bytes_peak", "cpu_ms"].into_iter().chain(ran.then_some("llm"));
    assert_eq!(keys(usage), budgets.chain(more).collect());
    for (name, used) in usage.as_object().unwrap() {
        assert!(used.is_u64() || name == "llm" && used["requests"].is_u64(), "{name}: {used}");
    }
}

#[test]
fn a_budget_that_ran_out_is_named_with_its_numbers() {
    let place = Place::new();
    let flood = json!({ "do": "event_flood" });
    let record = place.act(&flood, &["--limit", "events=7", "--json"]).with_status(4).json();
    assert_eq!(record["outcome"], json!({ "kind": "budget_exceeded", "budget": "events", "limit": 7, "used": 7 }));
    assert_eq!(record["usage"]["events"], 7);
}

#[test]
fn what_a_model_used_is_in_the_record_and_in_the_summary() {
    let place = Place::new();
    let ask = json!({ "do": "llm", "prompt": "hello" });
    let usage = &place.act(&ask, &["--json"]).with_status(0).json()["usage"];
    assert_eq!((&usage["llm"]["requests"], &usage["llm_requests"]), (&json!(1), &json!(1)));
    assert!(usage["llm_tokens"].as_u64() > Some(0), "{usage}");
    place.act(&ask, &[]).with_status(0).saying("completed in ").saying("1 llm requests (1 by offline), ");
}

/// A panic is a trap that says nothing; what it was logged with says all.
#[test]
fn a_trap_comes_with_what_was_logged_as_an_error() {
    let place = Place::new();
    let panics = json!({ "do": "sequence", "steps": [
        { "do": "log", "level": "error", "message": "failed here:\nwhat happened" }, { "do": "unreachable" },
    ]});
    let record = place.act(&panics, &["--json", "--quiet"]).with_status(5).json();
    let error = record["error"].as_str().unwrap();
    assert!(error.starts_with("wasm `unreachable` instruction executed\n  at "), "{error}");
    assert!(error.ends_with("\nthe last error that it logged: failed here:\nwhat happened"), "{error}");
    let shown = place.act(&panics, &[]).with_status(5);
    shown.saying("error: failed here:\n  what happened\n");
}

/// A command's exit status is its own; here there is one for all that are not 0.
#[test]
fn a_command_that_fails_is_a_guest_error() {
    let place = Place::new();
    let ended = place.exec(holm_test_artifacts::COMMAND, &["--input", "kept", "--", "--exit", "3"]).with_status(1);
    assert_eq!(ended.text(), "KEPT");
    ended.saying("error: the command failed");
}

/// What a host that fails looks like: one that has no more files to open.
#[test]
fn a_host_that_fails_says_so_and_why() {
    let place = Place::new();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", r#"ulimit -n 60; exec "$0" "$@""#]);
    let command = place.exec_command(holm_test_artifacts::COMMAND, &["--json"]);
    limited.current_dir(command.get_current_dir().unwrap()).arg(command.get_program()).args(command.get_args());
    limited.args((0..60).flat_map(|number| ["--dir".to_owned(), format!(".::/{number}")]));
    let ended = Ended::of(limited.output().unwrap()).with_status(6);
    assert_eq!(ended.json()["outcome"]["kind"], "host_error");
    ended.saying("cause: ");
    assert_eq!(place.records().len(), 1);
}

/// Before there is an execution to speak of.
#[test]
fn a_cache_folder_that_cannot_be_used_is_the_hosts_failure() {
    let place = Place::new();
    place.file("file", "");
    let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "file"]);
    let ended = Ended::of(command.arg(holm_test_artifacts::PROBE).output().unwrap()).with_status(6);
    assert_eq!((ended.text(), ended.stderr.lines().count()), ("", 1), "{}", ended.stderr);
    ended.saying("error: the cache folder file cannot be ");
}

/// A folder that nobody asked for is no reason to fail: a service may have a home that it cannot write to.
#[test]
fn a_default_cache_folder_that_cannot_be_used_costs_time_alone() {
    let place = Place::new();
    place.file("file", "");
    let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--input", "{\"do\":\"echo\"}"]);
    command.arg(holm_test_artifacts::PROBE).env("HOME", "/nonexistent/home").env("XDG_CACHE_HOME", "/dev/null");
    let ended = Ended::of(command.output().unwrap()).with_status(0);
    ended.saying("warning: nothing compiled is kept: the cache folder /dev/null/holm cannot be made: ");
}

#[test]
fn stdout_holds_the_output_and_nothing_else() {
    let place = Place::new();
    let noise = json!({ "do": "sequence", "steps": [
        { "do": "log", "level": "info", "message": "an info" },
        { "do": "log", "level": "error", "message": "an error" },
        { "do": "log", "level": "debug", "message": "a detail" },
        { "do": "print", "text": "printed" },
        { "do": "progress", "done": 1, "total": 2, "message": "half" },
        { "do": "progress", "done": 3, "message": "more" },
        { "do": "emit", "kind": "mine", "payload": { "a": 1 } },
        { "do": "echo", "value": "the output" },
    ]});
    for options in [&[][..], &["--trace"], &["--quiet"], &["-v"]] {
        let ended = place.act(&noise, options).with_status(0);
        assert_eq!(ended.json()[7], "the output");
        assert!(!ended.text().ends_with('\n'), "byte for byte");
    }
    let said = place.act(&noise, &[]).stderr;
    let lines: Vec<_> = said.lines().collect();
    let expected =
        ["an info", "error: an error", "debug: a detail", "(1/2) half", "(3) more", "[mine] {\"a\":1}", "printed"];
    for line in expected {
        assert!(lines.contains(&line), "{line}: {said}");
    }
    assert!(lines.last().unwrap().starts_with("completed in "), "{said}");
}

/// Bytes that are no text reach a file as they are, and the record as far as it can hold them.
#[test]
fn the_output_of_a_command_is_byte_exact() {
    let place = Place::new();
    let bytes = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\08\00\00\00")
        (data (i32.const 16) "\00\1b[2J\ff\0d\0a")
        (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;
    let wat = place.file("bytes.wat", bytes);
    assert_eq!(place.exec(&wat, &[]).with_status(0).stdout, b"\0\x1b[2J\xff\r\n");
    let ended = place.exec(&wat, &["--json"]).with_status(0);
    assert_eq!(ended.json()["output"], "\0\x1b[2J\u{fffd}\r\n");
    assert!(ended.stdout.iter().all(|byte| *byte == b'\n' || !byte.is_ascii_control()), "escaped");
}

#[test]
fn quiet_leaves_the_output_and_the_error() {
    let place = Place::new();
    let log = json!({ "do": "log", "level": "error", "message": "a line of the log" });
    let noisy = json!({ "do": "sequence", "steps": [log, { "do": "progress", "done": 1, "message": "x" }, { "do": "emit", "kind": "x" }] });
    assert_eq!(place.act(&noisy, &["--quiet"]).with_status(0).stderr, "");
    let failing = json!({ "do": "sequence", "steps": [log, { "do": "fail", "message": "no luck" }] });
    assert_eq!(place.act(&failing, &["-q"]).with_status(1).stderr, "error: no luck\n");
}

#[test]
fn trace_prints_the_tree_of_calls_on_stderr() {
    let place = Place::new();
    let call = json!({ "do": "call", "operation": "outer", "inputs": 1, "step": { "do": "llm", "prompt": "hello" } });
    let said = place.act(&call, &["--trace", "--quiet"]).with_status(0).stderr;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("execution  ") && lines[0].contains(" in, "), "{said}");
    assert!(lines[1].starts_with("└─ outer  "), "{said}");
    assert!(lines[2].starts_with("   └─ llm.complete  ") && lines[2].contains("hello"), "{said}");
    // Also of a run that failed: that is when one looks.
    let failing = json!({ "do": "sequence", "steps": [call, { "do": "unreachable" }] });
    place.act(&failing, &["--trace"]).with_status(5).saying("└─ outer  ").saying("✗ trapped");
}

/// As `| head` does. The run has ended all the same: its record is kept.
#[test]
fn a_reader_that_went_away_is_no_failure() {
    let place = Place::new();
    for args in [
        vec!["limits"],
        vec!["inspect", holm_test_artifacts::PROBE],
        vec!["exec", "--user", "alice", holm_test_artifacts::COMMAND, "--input", "x"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = place.command(&args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let ended = Ended::of(child.wait_with_output().unwrap()).with_status(0);
        assert!(!ended.stderr.contains("error"), "{}", ended.stderr);
    }
    assert_eq!(place.records().len(), 1);
}

#[test]
fn nothing_to_do_is_a_usage_error() {
    let place = Place::new();
    Ended::of(place.bare::<&str>([]).output().unwrap()).with_status(2).saying("Usage: runtime ");
    for args in [
        &["frobnicate"][..],
        &["exec"],
        &["exec", "x.wasm"],
        &["exec", "x.wasm", "--user", "../x"],
        &["exec", "x.wasm", "--user", "alice", "--frobnicate"],
    ] {
        let ended = place.run(args).with_status(2).saying("error: ");
        assert_eq!(ended.text(), "");
    }
    assert!(place.records().is_empty(), "no execution, no record");
    assert!(place.run(&["--version"]).with_status(0).text().starts_with("runtime 0."));
}
