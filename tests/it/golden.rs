//! What people and programs build on is what it was: a change of it is a decision, and shows up in a review.
//!
//! The files are in `tests/golden`. `INSTA_UPDATE=always cargo test --workspace --test it golden` writes them anew.

use serde_json::Value;

use crate::command::Place;
use crate::support::{ECHO, first, repository};

/// Compares with the golden file of this name.
fn assert_golden(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(repository().join("tests/golden"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn help() {
    let place = Place::new();
    for verb in ["", "exec", "inspect", "limits"] {
        let output = place.bare([verb, "--help"].iter().filter(|arg| !arg.is_empty())).output().unwrap();
        let name = format!("help {verb}");
        assert_golden(&name.trim_end().replace(' ', "_"), std::str::from_utf8(&output.stdout).unwrap());
    }
}

#[test]
fn limits() {
    let place = Place::new();
    assert_golden("limits", place.run(&["limits"]).text());
    assert_golden("limits_json", &pretty(&place.run(&["limits", "--json"]).json()));
}

#[test]
fn inspect() {
    let place = Place::new();
    place.file("echo.wat", ECHO.as_bytes());
    assert_golden("inspect", place.run(&["inspect", "echo.wat"]).text());
    assert_golden("inspect_json", &pretty(&place.run(&["inspect", "echo.wat", "--json"]).json()));
}

#[test]
fn record() {
    let place = Place::new();
    let echo = place.file("echo.wat", ECHO.as_bytes());
    assert_golden("record_completed", &redacted(place.exec(echo, &["--input", "hello", "--json"]).json()));
    let spin = place.file("spin.wat", first("", "(loop $l (br $l))"));
    assert_golden("record_budget_exceeded", &redacted(place.exec(spin, &["--fuel", "1M", "--json"]).json()));
    let refused = place.file("note.txt", "no workload");
    assert_golden("record_refused", &redacted(place.exec(refused, &["--json"]).json()));
}

#[test]
fn contract() {
    let folder = repository().join("host-api/wit");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let shown = |path: &std::path::PathBuf| {
        format!("// {}\n{}", path.file_name().unwrap().display(), std::fs::read_to_string(path).unwrap())
    };
    assert_golden("contract", &files.iter().map(shown).collect::<Vec<_>>().join("\n"));
}

/// A record without what differs from run to run.
fn redacted(mut record: Value) -> String {
    for volatile in ["/execution", "/started_at", "/usage/fuel", "/usage/wall_ms", "/usage/cpu_ms"] {
        let value = record.pointer_mut(volatile).unwrap();
        *value = format!("[{}]", volatile.rsplit('/').next().unwrap()).into();
    }
    pretty(&record)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}
