//! WASI: what the caller gave, and nothing else.

use holm_host_api::Outcome;
use holm_host_api::wasi::Preopen;
use holm_runtime::ExecutionRequest;
use serde_json::json;

use crate::support::{Host, name, output};

#[tokio::test]
async fn a_command_reads_stdin_and_writes_stdout() {
    let host = Host::new();
    let mut request = ExecutionRequest::new(name("alice"), host.command()).input("hello");
    request.wasi.args = ["command", "--args", "one", "two"].map(str::to_owned).to_vec();
    let id = request.execution;
    let execution = host.runtime.execute(request).await;
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    let output = String::from_utf8(execution.output).unwrap();
    assert!(output.contains("HELLO") && output.contains("one") && output.contains("two"), "{output}");
    assert!(!host.events.take(id).is_empty(), "stderr is logged");
}

#[tokio::test]
async fn a_command_that_exits_with_another_status_is_a_guest_error() {
    let host = Host::new();
    let mut request = ExecutionRequest::new(name("alice"), host.command());
    request.wasi.args = ["command", "--exit", "3"].map(str::to_owned).to_vec();
    let execution = host.runtime.execute(request).await;
    assert_eq!(execution.record.outcome, Outcome::GuestError);
}

#[tokio::test]
async fn the_environment_is_what_was_given() {
    let host = Host::new();
    assert_eq!(output(&host.act(json!({ "do": "env" })).await), json!({}));
    let mut request = host.request(json!({ "do": "env" }));
    request.wasi.env = vec![("GIVEN".into(), "yes".into())];
    assert_eq!(output(&host.runtime.execute(request).await), json!({ "GIVEN": "yes" }));
}

#[tokio::test]
async fn folders_are_what_was_given() {
    let host = Host::new();
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("given");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("note.txt"), "text").unwrap();
    std::fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret.txt", folder.join("link")).unwrap();

    let act = async |writable: bool, action: serde_json::Value| {
        let mut request = host.request(json!({ "do": "catch", "step": action }));
        request.wasi.preopens = vec![Preopen { host: folder.clone(), guest: "/data".into(), writable }];
        output(&host.runtime.execute(request).await)
    };
    assert_eq!(act(false, json!({ "do": "read_file", "path": "/data/note.txt" })).await["ok"], "text");
    for path in ["/data/../secret.txt", "/data/link", "/etc/passwd", "/data/../../etc/passwd", "secret.txt"] {
        let answer = act(true, json!({ "do": "read_file", "path": path })).await;
        assert!(answer["err"].is_string(), "{path}: {answer}");
    }
    let write = json!({ "do": "write_file", "path": "/data/new.txt", "content": "new" });
    assert!(act(false, write.clone()).await["err"].is_string(), "read-only");
    assert!(!folder.join("new.txt").exists());
    assert!(act(true, write).await["ok"].is_null());
    assert_eq!(std::fs::read_to_string(folder.join("new.txt")).unwrap(), "new");
    let nothing = host.act(json!({ "do": "catch", "step": { "do": "read_file", "path": "/data/note.txt" } })).await;
    assert!(output(&nothing)["err"].is_string(), "no folder without being given");
}

#[tokio::test]
async fn random_and_clocks() {
    let host = Host::new();
    let random = json!({ "do": "random", "bytes": 32 });
    let (one, two) = (host.act(random.clone()).await, host.act(random).await);
    assert_ne!(one.output, two.output);
    assert!(!output(&host.act(json!({ "do": "clock" })).await).is_null());
}

/// A command in text form that floods stdout ends, and what fits is kept.
#[tokio::test]
async fn a_flood_of_output_ends_the_command() {
    let host = Host::new();
    let flood = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\10\00\00\00")
        (data (i32.const 16) "0123456789abcde\n")
        (func (export "_start") (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))) (br $l))))"#;
    let budget = holm_host_api::Budget::default().with(holm_host_api::BudgetName::OutputBytes, 100);
    let request = ExecutionRequest::new(name("alice"), host.text(flood)).budget(budget);
    let execution = host.beside_a_neighbour(request).await;
    assert_eq!(crate::support::exceeded(&execution), holm_host_api::BudgetName::OutputBytes);
    assert_eq!(execution.output.len(), 100);
}
