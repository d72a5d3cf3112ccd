//! Records on disk.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::command::Place;

#[test]
fn what_is_kept_is_what_was_printed() {
    let place = Place::new();
    let mut printed = Vec::new();
    for (action, options) in [
        (json!({ "do": "echo", "value": "\u{1b}[2J é" }), &[][..]),
        (json!({ "do": "fail", "message": "no luck" }), &[]),
        (json!({ "do": "spin" }), &["--fuel", "2M"]),
        (json!({ "do": "unreachable" }), &[]),
        (json!({ "do": "echo" }), &["--grant", "none"]),
    ] {
        printed.push(place.act(&action, &[options, &["--json"]].concat()).json());
    }
    let not_wasm = place.file("note.txt", "no workload");
    printed.push(place.exec(not_wasm, &["--json"]).with_status(3).json());
    assert_eq!(place.records(), printed);
}

#[test]
fn a_record_is_kept_whether_it_is_printed_or_not() {
    let place = Place::new();
    place.act(&json!({ "do": "echo" }), &["--quiet"]).with_status(0);
    let records = place.records();
    assert_eq!((records.len(), &records[0]["outcome"]["kind"]), (1, &json!("completed")));
}

/// Inputs and outputs of users are not for the other users of the machine.
#[test]
fn records_are_for_their_owner_alone() {
    let place = Place::new();
    place.act(&json!({ "do": "echo" }), &[]).with_status(0);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = place.files("data").pop().unwrap();
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));
}

/// What ran has run: the output and the exit status stand.
#[test]
fn a_record_that_cannot_be_kept_is_a_warning() {
    let place = Place::new();
    place.file("data", "a file where the folder should be");
    for (action, status, output) in
        [(json!({ "do": "echo", "value": 1 }), 0, "1"), (json!({ "do": "fail", "message": "no luck" }), 1, "")]
    {
        let ended = place.act(&action, &["--quiet"]).with_status(status);
        assert_eq!(ended.text(), output);
        ended.saying("warning: the record was not kept in data/records/");
    }
}
