//! The memory of a whole process while providers send it all that they can.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::raw::{Raw, ok};
use crate::command::{Place, peak_bytes};

const MIB: u64 = 1 << 20;

/// Runs an action in a process of its own; gives the most memory that it held, and its exit status.
fn run(server: &Raw, action: &Value) -> (u64, Option<i32>) {
    let place = Place::new();
    let provider = format!(
        "[llm]\nprovider = \"x/m\"\n[[providers]]\nname = \"x\"\nkind = \"openai\"\nurl = \"http://{}\"",
        server.address
    );
    place.file("runtime.toml", provider);
    let mut command = place.act_command(action, &["--config-file", "runtime.toml"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(peak_bytes(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (peak, status.code());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn answer(text: &str) -> Vec<u8> {
    let answer = json!({ "choices": [{ "message": { "content": text }, "finish_reason": "stop" }] });
    ok(answer.to_string())
}

/// What a sound answer takes.
fn usual() -> u64 {
    let (usual, status) = run(&Raw::answering(answer("fine")), &json!({ "do": "llm", "prompt": "x" }));
    assert_eq!(status, Some(0));
    assert!(usual > MIB);
    usual
}

#[tokio::test]
async fn a_gigabyte_that_is_sent_takes_no_more_than_the_part_that_is_read() {
    let usual = usual();
    let endless = Raw::repeating("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", vec![b'x'; 1 << 16], 0);
    for verb in ["llm", "llm_stream"] {
        let (peak, status) = run(&endless, &json!({ "do": verb, "prompt": "x" }));
        assert_eq!(status, Some(1), "{verb}");
        assert!(peak < usual + 64 * MIB, "{verb}: {} MiB instead of {}", peak / MIB, usual / MIB);
    }
}

/// As many as may be open at once, each as long as it may be: in the guest they do not even fit.
#[tokio::test]
async fn the_longest_answers_at_once_are_bounded() {
    let usual = usual();
    let server = Raw::answering(answer(&"x".repeat(4_000_000)));
    let (peak, status) = run(&server, &json!({ "do": "llm_many", "prompt": "x{i}", "count": 64 }));
    assert!(matches!(status, Some(1 | 4)), "{status:?}");
    // The guest's memory, and each answer once or twice.
    assert!(peak < usual + (256 + 2 * 64 * 4) * MIB, "{} MiB instead of {}", peak / MIB, usual / MIB);
}
