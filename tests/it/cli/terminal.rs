//! On a terminal: nothing that a guest writes can steer it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use crate::command::Place;

/// Sets the title, clears the screen, and much else: as escape sequences of one byte and of two, with a bell,
/// a carriage return that overwrites the line, and a mark that turns the direction of the text.
const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}31mover\rwritten\u{202e}\u{8}";

/// Runs a command with all three streams on a terminal, and gives what the terminal got.
fn on_a_terminal(mut command: Command) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let terminal: OwnedFd = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = command.env("TERM", "xterm").stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    // The command holds copies too; the terminal ends for its reader when all are gone.
    drop((command, terminal));
    let mut got = Vec::new();
    // Linux says that nobody is there any more with an error.
    let _ = std::fs::File::from(master).read_to_end(&mut got);
    let shown = String::from_utf8(got).unwrap();
    assert!(!shown.contains("panicked"), "{shown}");
    (child.wait().unwrap().code(), shown)
}

/// Nothing of a guest's own is left that a terminal would obey.
#[track_caller]
fn assert_harmless(shown: &str) {
    for part in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{9b}", "over\rwritten", "\u{202e}", "\u{8}"] {
        assert!(!shown.contains(part), "{part:?} reached the terminal: {shown:?}");
    }
    assert!(shown.contains("\\u{1b}]0;pwned") || shown.contains("\\u001b]0;pwned"), "it is shown escaped: {shown:?}");
}

#[test]
fn an_output_is_shown_escaped() {
    let place = Place::new();
    let echo = json!({ "do": "echo", "value": HOSTILE });
    // JSON escapes what is below the space by itself; a command writes what it likes.
    let command =
        || place.exec_command(holm_test_artifacts::COMMAND, &["--quiet", "--", "--args", HOSTILE, "last line"]);
    let (status, shown) = on_a_terminal(command());
    assert_eq!(status, Some(0));
    assert_harmless(&shown);
    assert!(!shown.contains('\u{1b}'));
    assert!(shown.contains("last line\r\n"), "{shown:?}");
    let piped = command().output().unwrap();
    assert_eq!(
        piped.stdout,
        format!("command\n--args\n{HOSTILE}\nlast line\n").into_bytes(),
        "byte for byte elsewhere"
    );

    let (status, shown) = on_a_terminal(place.act_command(&echo, &["--quiet", "--json"]));
    assert_eq!(status, Some(0));
    assert_harmless(&shown);
    assert!(!shown.contains('\u{1b}'));
    let record: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(record["output"], echo["value"].to_string(), "what is escaped is still the same JSON");
    assert!(shown.lines().count() > 10, "it is printed for a person");
}

#[test]
fn colours_are_for_who_wants_them() {
    let place = Place::new();
    let traced = || place.act_command(&json!({ "do": "echo", "value": 1 }), &["--quiet", "--trace"]);
    assert!(on_a_terminal(traced()).1.contains('\u{1b}'));
    let mut plain = traced();
    plain.env("NO_COLOR", "1");
    let (_, shown) = on_a_terminal(plain);
    assert!(shown.contains("execution") && !shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn an_error_is_shown_escaped() {
    let place = Place::new();
    let failing = json!({ "do": "fail", "message": format!("{HOSTILE}\nsecond line") });
    let (status, shown) = on_a_terminal(place.act_command(&failing, &["--quiet"]));
    assert_eq!(status, Some(1));
    assert_harmless(&shown);
    assert!(!shown.contains('\u{1b}') && shown.contains("\r\nsecond line\r\n"), "{shown:?}");

    // The name of a function, in the frames of a trap.
    let body = "(call $\"\\1b]0;pwned\\07\\1b[2J\")";
    let trap = crate::support::first("(func $\"\\1b]0;pwned\\07\\1b[2J\" (unreachable))", body);
    let trap = place.file("trap.wat", trap);
    let (status, shown) = on_a_terminal(place.exec_command(&trap, &["--quiet"]));
    assert_eq!(status, Some(5));
    assert_harmless(&shown);
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn what_a_workload_is_called_is_shown_escaped() {
    let place = Place::new();
    let wat = place.file(&HOSTILE.replace('\u{8}', ""), crate::support::ECHO.as_bytes());
    let name = wat.file_name().unwrap().to_str().unwrap();
    let (status, shown) = on_a_terminal(place.command(&["inspect", name]));
    assert_eq!(status, Some(0));
    assert_harmless(&shown);
    let import = place.file("import.wat", r#"(component (import "\1b]0;pwned\07" (func)))"#);
    let (status, shown) = on_a_terminal(place.exec_command(&import, &[]));
    assert_eq!(status, Some(3));
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

/// Progress is a bar, and lines of the log come above it.
#[test]
fn events_and_calls_are_shown_escaped() {
    let place = Place::new();
    let action = json!({ "do": "sequence", "steps": [
        { "do": "progress", "done": 1, "total": 2, "message": format!("half {HOSTILE}") },
        { "do": "sleep", "ms": 200 },
        { "do": "log", "level": "warn", "message": HOSTILE },
        { "do": "print", "text": HOSTILE },
        { "do": "emit", "kind": HOSTILE, "payload": HOSTILE },
        { "do": "call", "operation": HOSTILE, "inputs": HOSTILE, "step": { "do": "llm", "prompt": HOSTILE } },
        { "do": "progress", "done": 2, "total": 2, "message": "whole" },
    ]});
    let (status, shown) = on_a_terminal(place.act_command(&action, &["--trace"]));
    assert_eq!(status, Some(0));
    assert_harmless(&shown);
    assert!(shown.contains("] 1/2 half "), "a bar: {shown:?}");
    assert!(shown.contains("warning: \\u{1b}]0;pwned"), "{shown:?}");
    assert!(shown.contains("completed in "), "{shown:?}");
}
