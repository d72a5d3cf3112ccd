//! What the options of `runtime exec` give a workload, and what is wrong with those that make no sense.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::command::{Ended, Place};

fn echo() -> Value {
    json!({ "do": "echo", "value": 1 })
}

#[test]
fn the_input_comes_from_a_text_a_file_or_stdin() {
    let place = Place::new();
    let action = json!({ "do": "echo", "value": "grüße" }).to_string();
    let file = place.file("input.json", &action);
    let expected = "\"grüße\"";
    let probe = holm_test_artifacts::PROBE;
    assert_eq!(place.exec(probe, &["--input", &action]).with_status(0).text(), expected);
    assert_eq!(place.exec(probe, &["--input-file", file.to_str().unwrap()]).with_status(0).text(), expected);
    assert_eq!(place.exec(probe, &["--input-file", "input.json"]).with_status(0).text(), expected);
    assert_eq!(place.feed(place.exec_command(probe, &["--input-file", "-"]), &action).with_status(0).text(), expected);

    let command = holm_test_artifacts::COMMAND;
    assert_eq!(place.exec(command, &[]).with_status(0).text(), "", "no input is an empty one");
    let unasked = place.feed(place.exec_command(command, &[]), "x");
    assert_eq!(unasked.with_status(0).text(), "", "stdin is read when that is asked for");
    assert_eq!(place.feed(place.exec_command(command, &["--input-file", "-"]), "a\nb").with_status(0).text(), "A\nB");
}

#[test]
fn an_input_that_cannot_be_is_an_error() {
    let place = Place::new();
    let probe = holm_test_artifacts::PROBE;
    place.exec(probe, &["--input", "x", "--input-file", "y"]).with_status(2).saying("cannot be used with");
    place.exec(probe, &["--input-file", "missing.json"]).with_status(2).saying("missing.json cannot be read");
    place.exec(probe, &["--input-file", "."]).with_status(2).saying(". cannot be read");
    assert!(place.records().is_empty());
    let not_text = place.file("bytes", b"ab\xff");
    let not_text = ["--input-file", not_text.to_str().unwrap()];
    place.exec(probe, &not_text).with_status(3).saying("error: the input is not UTF-8 at byte 2");
    place.exec(probe, &["--input", "four", "--limit", "input_bytes=3"]).with_status(3).saying("input_bytes allows 3");
}

/// An endless stdin is read up to the budget and no further.
#[test]
fn an_input_without_end_is_refused() {
    let place = Place::new();
    let options = ["--input-file", "-", "--limit", "input_bytes=1MiB"];
    let mut command = place.exec_command(holm_test_artifacts::COMMAND, &options);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let endless = std::thread::spawn(move || while stdin.write_all(&[b'x'; 4096]).is_ok() {});
    let ended = Ended::of(child.wait_with_output().unwrap()).with_status(3);
    ended.saying("the input has 1048577 bytes, the budget input_bytes allows 1048576");
    endless.join().unwrap();
}

/// Neither is a file that goes on for ever.
#[test]
fn files_without_end_are_refused() {
    let place = Place::new();
    let options = ["--input-file", "/dev/zero", "--limit", "input_bytes=1MiB"];
    place.exec(holm_test_artifacts::COMMAND, &options).with_status(3).saying("the budget input_bytes allows 1048576");
    place.exec("/dev/zero", &[]).with_status(3).saying("error: ");
}

#[test]
fn config_is_what_was_given() {
    let place = Place::new();
    let keys = ["one", "two", "three"].map(|key| json!({ "do": "config", "key": key }));
    let options = ["--config", "one=1", "--config", "two=a=b", "--config", "one=last"];
    let output = place.act(&json!({ "do": "sequence", "steps": keys }), &options).with_status(0).json();
    assert_eq!(output, json!(["last", "a=b", null]));
    for wrong in ["one", "=1", ""] {
        place.act(&echo(), &["--config", wrong]).with_status(2).saying("write KEY=VALUE");
    }
}

#[test]
fn the_environment_is_what_was_given() {
    let place = Place::new();
    let mut command = place.act_command(&json!({ "do": "env" }), &["--env", "GIVEN=yes", "--env", "EMPTY="]);
    let ended = Ended::of(command.env("SECRET", "of the host").output().unwrap());
    assert_eq!(ended.with_status(0).json(), json!({ "GIVEN": "yes", "EMPTY": "" }));
    place.act(&echo(), &["--env", "GIVEN"]).with_status(2).saying("write KEY=VALUE");
}

#[test]
fn a_command_has_arguments() {
    let place = Place::new();
    let named = place.path("named.wasm");
    std::fs::copy(holm_test_artifacts::COMMAND, &named).unwrap();
    let options = ["--quiet", "--env", "A=1", "--", "--args", "--env", "--json", "two words"];
    let ended = place.exec(&named, &options).with_status(0);
    assert_eq!(ended.text(), "named\n--args\n--env\n--json\ntwo words\nA=1\n");
}

#[test]
fn folders_are_what_was_given() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("shared/deep")).unwrap();
    place.file("shared/note.txt", "text");
    place.file("secret.txt", "secret");
    let read = |path: &str| json!({ "do": "read_file", "path": path });
    let write = |path: &str| json!({ "do": "write_file", "path": path, "content": "new" });

    assert_eq!(place.act(&read("/data/note.txt"), &["--dir", "shared::/data"]).with_status(0).json(), "text");
    let absolute = format!("{}::/data:ro", place.path("shared").display());
    assert_eq!(place.act(&read("/data/note.txt"), &["--dir", &absolute]).with_status(0).json(), "text");
    place.act(&write("/data/a.txt"), &["--dir", "shared::/data"]).with_status(0);
    place.act(&write("/data/b.txt"), &["--dir", "shared::/data:rw"]).with_status(0);
    place.act(&write("/data/c.txt"), &["--dir", "shared::/data:ro"]).with_status(1);
    place.act(&read("/data/../secret.txt"), &["--dir", "shared::/data"]).with_status(1);
    place.act(&read("/etc/passwd"), &["--dir", "shared::/data"]).with_status(1);
    place.act(&read("/data/note.txt"), &[]).with_status(1);
    let two = ["--dir", "shared::/data", "--dir", "shared/deep::/deep:ro"];
    let lists = json!({ "do": "sequence", "steps": [{ "do": "list_dir", "path": "/data" }, { "do": "list_dir", "path": "/deep" }] });
    assert_eq!(place.act(&lists, &two).with_status(0).json(), json!([["a.txt", "b.txt", "deep", "note.txt"], []]));
}

#[test]
fn a_folder_that_is_not_there_is_a_usage_error() {
    let place = Place::new();
    place.file("file", "");
    for (wrong, said) in [
        ("missing::/data", "--dir: there is no folder missing"),
        ("file::/data", "--dir: there is no folder file"),
        ("missing", "write HOST::GUEST"),
        ("::/data", "write HOST::GUEST"),
        (".::", "write HOST::GUEST"),
    ] {
        place.act(&echo(), &["--dir", wrong]).with_status(2).saying(said);
    }
    assert!(place.records().is_empty());
}

#[test]
fn grants_are_all_or_those_that_were_given() {
    let place = Place::new();
    let ask = json!({ "do": "llm", "prompt": "hello" });
    place.act(&ask, &[]).with_status(0);
    let none = place.act(&ask, &["--grant", "none"]).with_status(3);
    // All at once, so that nobody grants one after the other.
    none.saying("`holm:host/events@0.1.0`").saying("`holm:host/llm@0.1.0`").saying("`holm:host/trace@0.1.0`");
    let some = ["--grant", "events", "--grant", "trace", "--grant", "llm.complete"];
    place.act(&ask, &some).with_status(0);
    let embed = json!({ "do": "embed", "inputs": ["a"] });
    place.act(&embed, &some).with_status(1).saying("error: not granted: llm.embed");
    let unknown = place.act(&echo(), &["--grant", "llm", "--grant", "files"]).with_status(2);
    unknown.saying("there is no capability `files` to grant; there are events, trace, llm");
    let misspelt = place.act(&echo(), &["--grant", "llm.compleet"]).with_status(2);
    misspelt.saying("`llm` has no function `compleet` to grant; it has complete, submit, start-stream, embed");
    for wrong in ["", "llm.", "*", "a b"] {
        place.act(&echo(), &["--grant", wrong]).with_status(2).saying("is no grant");
    }
}

#[test]
fn limits_are_in_units_that_people_write() {
    let place = Place::new();
    let spin = json!({ "do": "spin" });
    let grow = json!({ "do": "grow" });
    let sleep = json!({ "do": "sleep_forever" });
    let flood = json!({ "do": "event_flood" });
    let big = json!({ "do": "big_output", "bytes": 2_000 });
    for (action, options, budget, limit) in [
        (&spin, ["--fuel", "2_500K"], "fuel", 2_500_000),
        (&spin, ["--fuel", "9000000"], "fuel", 9_000_000),
        (&spin, ["--limit", "fuel=9M"], "fuel", 9_000_000),
        (&sleep, ["--timeout", "200ms"], "wall_ms", 200),
        (&sleep, ["--timeout", "1s"], "wall_ms", 1_000),
        (&sleep, ["--limit", "wall_ms=150"], "wall_ms", 150),
        (&grow, ["--memory", "8MiB"], "memory_bytes", 8 << 20),
        (&grow, ["--memory", "9MB"], "memory_bytes", 9_000_000),
        (&grow, ["--limit", "memory_bytes=8388608"], "memory_bytes", 8 << 20),
        (&flood, ["--limit", "events=1K"], "events", 1_000),
        (&big, ["--limit", "output_bytes=1KiB"], "output_bytes", 1_024),
    ] {
        let ended = place.act(action, &[&options[..], &["--json"]].concat()).with_status(4);
        let outcome = &ended.json()["outcome"];
        assert_eq!((&outcome["budget"], &outcome["limit"]), (&json!(budget), &json!(limit)), "{options:?}");
    }
}

/// What the default would end runs on.
#[test]
fn unlimited_is_a_value_of_every_limit() {
    let place = Place::new();
    let grow = json!({ "do": "grow", "bytes": 270 << 20 });
    place.act(&grow, &[]).with_status(4);
    place.act(&grow, &["--memory", "unlimited"]).with_status(0);
    let flood = json!({ "do": "event_flood", "count": 10_001 });
    place.act(&flood, &["--quiet"]).with_status(4);
    place.act(&flood, &["--quiet", "--limit", "events=unlimited"]).with_status(0);
    let all = ["--fuel", "unlimited", "--timeout", "unlimited", "--memory", "unlimited"];
    let record = place.act(&echo(), &[&all[..], &["--json"]].concat()).with_status(0).json();
    assert!(record["usage"]["fuel"].as_u64() > Some(0), "it is counted all the same");
}

#[test]
fn limits_that_make_no_sense_are_usage_errors() {
    let place = Place::new();
    for (options, said) in [
        (["--fuel", "much"], "write a number"),
        (["--fuel", "-1"], "write a number"),
        (["--fuel", "99999999999T"], "too large"),
        (["--memory", "64 apples"], "write a size, such as 64MiB"),
        (["--timeout", "30"], "write the unit too, such as 30s or 30ms"),
        (["--timeout", "soon"], "write a time"),
        (["--limit", "fule=1"], "no budget is named `fule`; `runtime limits` lists them"),
        (["--limit", "events"], "write NAME=VALUE; `runtime limits` lists the names"),
        (["--limit", "events=many"], "write a number"),
        (["--limit", "events=1 2"], "write a number"),
    ] {
        let ended = place.act(&echo(), &options).with_status(2).saying("error: ").saying(said);
        assert_eq!(ended.text(), "");
    }
    assert!(place.records().is_empty());
}

#[test]
fn a_script_says_what_models_answer() {
    let place = Place::new();
    let script =
        json!({ "rules": [{ "when": { "contains": "capital", "user": "alice" }, "reply": { "text": "Oslo" } }] });
    place.file("script.json", script.to_string());
    let ask = json!({ "do": "llm", "prompt": "the capital of Norway?" });
    let answer = place.act(&ask, &["--llm-script", "script.json"]).with_status(0).json();
    assert_eq!(answer["text"], "Oslo");
    let mut bobs =
        place.command(&["exec", holm_test_artifacts::PROBE, "--user", "bob", "--llm-script", "script.json", "--input"]);
    let bobs = Ended::of(bobs.arg(ask.to_string()).output().unwrap()).with_status(0).json();
    assert_ne!(bobs["text"], "Oslo", "the rule is for alice");
}

#[test]
fn a_script_that_is_wrong_is_named_with_its_place() {
    let place = Place::new();
    place.file("keys.json", "{\"rules\": [\n  {\"when\": {\"contain\": \"x\"}, \"reply\": {\"text\": \"y\"}}]}");
    place.file("cut.json", "{\"rules\": [");
    place.file("bytes.json", b"\xff");
    for (file, said) in [
        ("keys.json", &["line 2, column ", "(rules[0].when.contain)", "unknown field `contain`"][..]),
        ("cut.json", &["line 1, column "]),
        ("bytes.json", &["utf-8"]),
        ("missing.json", &["cannot be read"]),
    ] {
        let mut ended = place.act(&echo(), &["--llm-script", file]).with_status(2).saying("error: ").saying(file);
        for said in said {
            ended = ended.saying(said);
        }
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}
