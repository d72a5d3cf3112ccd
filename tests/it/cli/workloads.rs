//! Files that are a workload and files that are none; `runtime inspect`.

use serde_json::json;

use crate::command::{Ended, Place};
use crate::support::ECHO;

#[test]
fn a_workload_is_binary_or_text_a_component_or_a_module() {
    let place = Place::new();
    let component = place.file("echo.wat", ECHO.as_bytes());
    assert_eq!(place.exec(&component, &["--input", "hi"]).with_status(0).text(), "hi");
    let binary = place.file("echo.wasm", wat::parse_str(&**ECHO).unwrap());
    assert_eq!(place.exec(&binary, &["--input", "hi"]).with_status(0).text(), "hi");
    let module = place.file("module.wat", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    assert_eq!(place.exec(&module, &["--input", "hi"]).with_status(0).text(), "");
}

#[test]
fn a_file_that_cannot_be_read_is_a_usage_error() {
    let place = Place::new();
    for (path, said) in [("missing.wasm", "No such file"), (".", "Is a directory")] {
        for verb in [&["exec", path, "--user", "alice"][..], &["inspect", path]] {
            let ended = place.run(verb).with_status(2).saying(&format!("error: {path} cannot be read: {said}"));
            assert_eq!((ended.text(), ended.stderr.lines().count()), ("", 1));
        }
    }
    assert!(place.records().is_empty());
}

/// Each with one sentence, and with a record: somebody tried to run it.
#[test]
fn a_file_that_is_no_workload_is_refused() {
    let place = Place::new();
    let whole = std::fs::read(holm_test_artifacts::PROBE).unwrap();
    let files = [
        ("empty", &b""[..], "not WebAssembly: there are no bytes"),
        ("page.html", b"<!doctype html>", "not WebAssembly: it begins with \"<!doctype html>\""),
        ("cut.wasm", &whole[..whole.len() / 2], "malformed at byte "),
        ("header.wasm", &whole[..6], "malformed at byte "),
        ("typo.wat", b"(module\n  (fnc))", "malformed text at line 2, column 4"),
        ("library.wat", b"(module (func (export \"add\")))", "no entry point: this core module exports `add`"),
        ("stranger.wat", b"(component (import \"stranger\" (func)))", "no entry point: this component exports nothing"),
    ];
    for (name, bytes, said) in files {
        let path = place.file(name, bytes);
        let ended = place.exec(&path, &[]).with_status(3).saying(&format!("error: {said}"));
        assert_eq!((ended.text(), ended.stderr.lines().count()), ("", 1), "{}", ended.stderr);
        let inspected = place.run(&["inspect", name]).with_status(3);
        assert!(inspected.text().contains(&format!("admitted   no: {said}")), "{}", inspected.text());
        let json = place.run(&["inspect", name, "--json"]).with_status(3).json();
        assert_eq!(
            (&json["admitted"], &json["digest"], &json["inspection"]),
            (&json!(false), &json!(null), &json!(null))
        );
    }
    assert_eq!(place.records().len(), files.len());
}

/// Machine code that somebody hands in would run with the rights of the host: also code that is our own.
#[test]
fn compiled_code_is_refused() {
    let place = Place::new();
    let echo = place.file("echo.wat", ECHO.as_bytes());
    let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "cache"]);
    Ended::of(command.arg(&echo).output().unwrap()).with_status(0);
    let compiled = place.files("cache/compiled").pop().unwrap();
    assert_eq!(compiled.extension().unwrap(), "cwasm");
    place.exec(&compiled, &[]).with_status(3).saying("error: precompiled: this is an ELF file");
    assert!(place.run(&["inspect", compiled.to_str().unwrap()]).with_status(3).text().contains("no: precompiled"));
}

#[test]
fn inspect_says_what_a_workload_needs_and_whether_it_has_it() {
    let place = Place::new();
    let probe = holm_test_artifacts::PROBE;
    let ended = place.run(&["inspect", probe]).with_status(0);
    for row in [
        "shape      workload (exports run: ",
        "imports    holm:host/llm@0.1.0\n",
        "exports    run\n",
        "admitted   yes\n",
    ] {
        assert!(ended.text().contains(row), "{row:?} is not in: {}", ended.text());
    }
    assert_eq!(ended.stderr, "");

    let json = place.run(&["inspect", probe, "--json"]).with_status(0).json();
    assert_eq!(
        (&json["admitted"], &json["refused"], &json["inspection"]["shape"]),
        (&json!(true), &json!(null), &json!("workload"))
    );
    let imports = json["inspection"]["imports"].as_array().unwrap();
    let llm = imports.iter().find(|import| import["name"] == "holm:host/llm@0.1.0").unwrap();
    assert!(llm["functions"].as_array().unwrap().contains(&json!("complete")), "{llm}");
    let record = place.act(&json!({ "do": "echo" }), &["--json"]).json();
    assert_eq!(json["digest"], record["workload"]["digest"]);

    let refused = place.run(&["inspect", probe, "--grant", "trace"]).with_status(3);
    assert!(refused.text().contains(
        "admitted   no: not granted: the workload imports `holm:host/events@0.1.0`, `holm:host/llm@0.1.0`; "
    ));
    place.run(&["inspect", probe, "--grant", "files"]).with_status(2).saying("there is no capability `files`");
    let command = place.run(&["inspect", holm_test_artifacts::COMMAND]).with_status(0);
    assert!(command.text().contains("shape      command (reads stdin, writes stdout)"));
}

/// `inspect` and `limits` need no folder and leave none.
#[test]
fn looking_leaves_nothing() {
    let place = Place::new();
    for args in [&["inspect", holm_test_artifacts::PROBE][..], &["limits"], &["limits", "--json"]] {
        Ended::of(place.bare(args).output().unwrap()).with_status(0);
    }
    assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 0);
}

#[test]
fn limits_lists_every_budget() {
    let place = Place::new();
    let listed = place.run(&["limits", "--json"]).with_status(0).json();
    let table = place.run(&["limits"]).with_status(0);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|limit| limit["name"].as_str().unwrap()).collect();
    assert!(names.iter().copied().eq(holm_host_api::BudgetName::ALL.iter().map(|name| name.as_str())));
    assert!(names.iter().all(|name| table.text().lines().any(|line| line.starts_with(&format!("{name} ")))));
}
