//! The scratch folder: nothing passes its quota, nothing leaves it, and nothing of it is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use holm_host_api::events::{Event, EventBackend, EventSink};
use holm_host_api::wasi::{Preopen, SCRATCH_GUEST_PATH};
use holm_host_api::{Budget, BudgetName, Grants, HostError, Outcome, Scope};
use holm_runtime::{Execution, ExecutionRequest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::Place;
use crate::support::{Host, exceeded, output};

const BYTES: u64 = 100_000;
const FILES: u64 = 50;

/// WASI's error numbers.
const QUOTA: u8 = 19;
/// What the guest's C library makes of every failure of a stream, without asking which it was.
const IO: u8 = 29;
const UNSUPPORTED: u8 = 58;

/// A runtime that has scratch folders to give, below a folder that can be looked at.
struct Scratch {
    host: Host,
    place: TempDir,
}

impl Scratch {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let host = Host::with(|builder| builder.scratch_dir(place.path().join("root")));
        Scratch { host, place }
    }

    fn request(&self, action: Value) -> ExecutionRequest {
        let budget = Budget::default().with(BudgetName::ScratchBytes, BYTES).with(BudgetName::ScratchFiles, FILES);
        let mut request = self.host.request(action).budget(budget);
        request.wasi.scratch = Some(SCRATCH_GUEST_PATH.to_owned());
        request
    }

    /// Runs a request, and shows that nothing is left of it.
    async fn run(&self, request: ExecutionRequest) -> Execution {
        let execution = self.host.runtime.execute(request).await;
        assert_eq!(self.left(), Vec::<PathBuf>::new());
        assert_eq!(execution.record.finish.failures, Vec::<String>::new());
        for (name, limit) in [("scratch_bytes", BYTES), ("scratch_files", FILES)] {
            let used = execution.record.usage.get(name).unwrap();
            assert!(used <= limit, "{name}: {used}");
        }
        execution
    }

    async fn act(&self, action: Value) -> Execution {
        self.run(self.request(action)).await
    }

    /// What there is in the folders of runtimes.
    fn left(&self) -> Vec<PathBuf> {
        let names = |path: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        names(&self.place.path().join("root")).iter().flat_map(|runtime| names(runtime)).collect()
    }
}

#[tokio::test]
async fn no_way_of_filling_it_passes_the_quota() {
    let scratch = Scratch::new();
    let ways = [
        ("write", IO, BudgetName::ScratchBytes, 24),
        ("append", IO, BudgetName::ScratchBytes, 24),
        ("set_len", QUOTA, BudgetName::ScratchBytes, 24),
        ("holes", IO, BudgetName::ScratchBytes, 13),
        ("far", IO, BudgetName::ScratchBytes, 0),
        ("files", QUOTA, BudgetName::ScratchFiles, 49),
        ("folders", QUOTA, BudgetName::ScratchFiles, 49),
        ("hard_links", QUOTA, BudgetName::ScratchFiles, 49),
        ("symlinks", QUOTA, BudgetName::ScratchFiles, 49),
        ("hoard", IO, BudgetName::ScratchBytes, 24),
    ];
    for (how, errno, budget, times) in ways {
        let fill = json!({ "do": "scratch_fill", "how": how });
        let execution = scratch.act(fill.clone()).await;
        assert_eq!(output(&execution), json!({ "times": times, "errno": errno }), "{how}");
        // One that cannot live with it fails of it by name.
        let fails = json!({ "do": "sequence", "steps": [fill, { "do": "fail" }] });
        assert_eq!(exceeded(&scratch.act(fails).await), budget, "{how}");
    }
    let allocated = output(&scratch.act(json!({ "do": "scratch_fill", "how": "allocate" })).await);
    assert_eq!(allocated, json!({ "times": 0, "errno": UNSUPPORTED }), "WASI has no call for it");
}

#[tokio::test]
async fn what_is_given_back_can_be_used_again() {
    let scratch = Scratch::new();
    for how in ["truncate", "rename", "remove"] {
        assert_eq!(output(&scratch.act(json!({ "do": "scratch_churn", "how": how, "times": 60 })).await), 60, "{how}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_it() {
    let scratch = Scratch::new();
    let secret = scratch.place.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let escaped = scratch.act(json!({ "do": "scratch_escape", "path": secret.to_str().unwrap() })).await;
    assert_eq!(output(&escaped), json!([]));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(scratch.place.path()).unwrap().count(), 2, "the secret and the root");
}

#[tokio::test]
async fn a_read_only_folder_beside_it_stays_as_it_is() {
    let scratch = Scratch::new();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("note.txt"), "text").unwrap();
    let written = std::fs::metadata(data.path().join("note.txt")).unwrap().modified().unwrap();
    let mut request = scratch.request(json!({ "do": "scratch_tamper" }));
    request.wasi.preopens = vec![Preopen { host: data.path().into(), guest: "/data".into(), writable: false }];
    assert_eq!(output(&scratch.run(request).await), json!([]));
    assert_eq!(std::fs::read_to_string(data.path().join("note.txt")).unwrap(), "text");
    assert_eq!(std::fs::metadata(data.path().join("note.txt")).unwrap().modified().unwrap(), written);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn odd_names_are_names_or_refused() {
    let scratch = Scratch::new();
    let fine = ["con", "NUL", "aux.txt", "com1", "...", " ", "-rf", "*", "a\nb", "ü", "\u{202e}x", "a:b", "a\\b"];
    let odd = ["", ".", "..", "/", "x/", "a\0b", "\0", "con/x", "none/x"];
    let long = ["x".repeat(256), "x".repeat(4096), "x/".repeat(3000)];
    let names: Vec<_> = fine.iter().chain(&odd).map(|name| (*name).to_owned()).chain(long).collect();
    let made = scratch.act(json!({ "do": "scratch_names", "names": names })).await;
    assert_eq!(output(&made), json!(fine));
}

#[tokio::test]
async fn a_deep_tree_goes_as_well() {
    let scratch = Scratch::new();
    let mut request = scratch.request(json!({ "do": "scratch_deep", "depth": 3_000 }));
    request.budget.set(BudgetName::ScratchFiles, 2_000);
    let execution = scratch.host.runtime.execute(request).await;
    assert_eq!(output(&execution), 2_000);
    assert_eq!(scratch.left(), Vec::<PathBuf>::new());
    assert_eq!(execution.record.usage.get("scratch_files"), Some(2_000));
}

#[tokio::test]
async fn it_is_gone_after_every_ending() {
    let scratch = Scratch::new();
    let endings = [
        (json!({ "do": "echo" }), "completed"),
        (json!({ "do": "fail" }), "guest_error"),
        (json!({ "do": "unreachable" }), "trapped"),
        (json!({ "do": "spin" }), "budget_exceeded"),
        (json!({ "do": "sleep_forever" }), "budget_exceeded"),
        (json!({ "do": "grow" }), "budget_exceeded"),
        (json!({ "do": "scratch_fill", "how": "files" }), "completed"),
    ];
    for (ending, kind) in endings {
        let leave = json!({ "do": "scratch_leave", "mark": "x" });
        let mut request = scratch.request(json!({ "do": "sequence", "steps": [leave, ending] }));
        request.budget.set(BudgetName::Fuel, 100_000_000).set(BudgetName::WallMs, 2_000);
        let execution = scratch.run(request).await;
        assert_eq!(execution.record.outcome.kind(), kind, "{ending}: {:?}", execution.record.error);
    }
    scratch.host.assert_nothing_held().await;
}

#[tokio::test]
async fn it_is_gone_where_the_end_comes_in_the_middle_of_a_call() {
    let scratch = Scratch::new();
    for (number, how) in ["truncate", "rename", "remove"].iter().cycle().take(30).enumerate() {
        let mut request = scratch.request(json!({ "do": "scratch_churn", "how": how, "times": 1_000_000 }));
        request.budget.set(BudgetName::WallMs, 20 + number as u64);
        assert_eq!(exceeded(&scratch.run(request).await), BudgetName::WallMs);
    }
    scratch.host.assert_nothing_held().await;
}

/// Takes no event without panicking.
struct Panics;

impl EventBackend for Panics {
    fn open(&self, _scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        Ok(Arc::new(Panics))
    }
}

impl EventSink for Panics {
    fn send(&self, _event: Event) {
        panic!("the host fails");
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { panic!("again") })
    }
}

#[tokio::test]
async fn it_is_gone_after_a_panic_of_the_host() {
    let place = tempfile::tempdir().unwrap();
    let host = Host::with(|builder| builder.scratch_dir(place.path().join("root")).events(Panics));
    let scratch = Scratch { host, place };
    let emit = json!({ "do": "emit", "kind": "mine" });
    let steps = json!([{ "do": "scratch_leave", "mark": "x" }, emit]);
    let execution = scratch.host.runtime.execute(scratch.request(json!({ "do": "sequence", "steps": steps }))).await;
    assert_eq!(execution.record.outcome, Outcome::HostError, "{:?}", execution.record.error);
    assert_eq!(scratch.left(), Vec::<PathBuf>::new());
    scratch.host.assert_nothing_held().await;
}

#[tokio::test]
async fn it_is_gone_after_a_cancellation_and_when_nobody_waits() {
    let scratch = Scratch::new();
    let steps = json!([{ "do": "scratch_leave", "mark": "x" }, { "do": "sleep_forever" }]);
    let action = json!({ "do": "sequence", "steps": steps });
    let request = scratch.request(action.clone());
    let cancellation = request.cancellation.clone();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(scratch.left().len(), 1, "it is there as long as the guest is");
        cancellation.cancel();
    };
    let (execution, ()) = tokio::join!(scratch.run(request), cancel);
    assert_eq!(execution.record.outcome, Outcome::Cancelled);

    let dropped = tokio::time::timeout(Duration::from_millis(200), scratch.run(scratch.request(action.clone()))).await;
    assert!(dropped.is_err());
    scratch.host.assert_nothing_held().await;
    assert_eq!(scratch.left(), Vec::<PathBuf>::new());

    // The runtime itself goes, with an execution under way.
    let Scratch { host, place } = scratch;
    let mut request = host.request(action);
    request.wasi.scratch = Some(SCRATCH_GUEST_PATH.to_owned());
    let runtime = host.runtime.clone();
    let under_way = tokio::spawn(async move { runtime.execute(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(host);
    under_way.abort();
    let root = place.path().join("root");
    for _ in 0..200 {
        if std::fs::read_dir(&root).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left: {:?}", std::fs::read_dir(&root).unwrap().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_see_nothing_of_each_others() {
    let scratch = Scratch::new();
    let executions = (0..20).map(|number| {
        let leave = json!({ "do": "scratch_leave", "mark": format!("mark-{number}") });
        let read = json!({ "do": "list_dir", "path": "/scratch/a/b/c" });
        let steps = json!([leave, { "do": "sleep", "ms": 50 }, read]);
        let request = scratch.request(json!({ "do": "sequence", "steps": steps }));
        async { output(&scratch.host.runtime.execute(request).await) }
    });
    for (number, seen) in futures::future::join_all(executions).await.iter().enumerate() {
        assert_eq!(seen[0], json!([]), "it is empty at first");
        assert_eq!(seen[2], json!([format!("mark-{number}")]));
    }
    assert_eq!(scratch.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn it_is_given_to_nobody_who_is_not_granted_it_or_does_not_ask() {
    let scratch = Scratch::new();
    let mut request = scratch.request(json!({ "do": "echo" }));
    request.grants =
        Grants::from_iter(["events".parse().unwrap(), "llm".parse().unwrap(), "trace".parse().unwrap()]).into();
    let refused = scratch.run(request).await.record;
    assert_eq!(refused.outcome, Outcome::Refused);
    let error = refused.error.unwrap();
    assert!(error.contains("scratch") && error.contains("not granted"), "{error}");

    let list = json!({ "do": "catch", "step": { "do": "list_dir", "path": "/scratch" } });
    let unasked = scratch.run(scratch.host.request(list)).await;
    assert!(output(&unasked)["err"].is_string());

    let none = Host::new();
    let mut request = none.request(json!({ "do": "echo" }));
    request.wasi.scratch = Some(SCRATCH_GUEST_PATH.to_owned());
    let record = none.runtime.execute(request).await.record;
    assert_eq!(
        (record.outcome, record.error.as_deref()),
        (Outcome::HostError, Some("this runtime has no scratch folders to give"))
    );
}

/// WASI preview 1 comes to the same functions by its adapter: each call's error number, a byte each, on stdout.
#[tokio::test]
async fn preview_1_is_held_to_the_quota() {
    let scratch = Scratch::new();
    let module = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open
          (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_allocate" (func $allocate (param i32 i64 i64) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\04\00\00\00" "\80\00\00\00\06\00\00\00" "name")
        (global $at (mut i32) (i32.const 128))
        (func $say (param $errno i32)
          (i32.store8 (global.get $at) (i32.add (local.get $errno) (i32.const 32)))
          (global.set $at (i32.add (global.get $at) (i32.const 1))))
        (func (export "_start") (local $fd i32)
          (call $say (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 1)
            (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 64)))
          (local.set $fd (i32.load (i32.const 64)))
          (call $say (call $allocate (local.get $fd) (i64.const 0) (i64.const 1073741824)))
          (call $say (call $set_size (local.get $fd) (i64.const 1073741824)))
          (call $say (call $set_size (local.get $fd) (i64.const 100000)))
          (call $say (call $pwrite (local.get $fd) (i32.const 0) (i32.const 1) (i64.const 99998) (i32.const 72)))
          (call $say (call $pwrite (local.get $fd) (i32.const 0) (i32.const 1) (i64.const 99996) (i32.const 72)))
          (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 72)))))"#;
    let mut request = scratch.request(json!({}));
    request.workload = scratch.host.text(module);
    let execution = scratch.run(request).await;
    let errnos: Vec<u8> = execution.output.iter().map(|byte| byte - 32).collect();
    assert_eq!(errnos, [0, UNSUPPORTED, QUOTA, 0, QUOTA, 0], "{:?}", execution.record);
    assert_eq!(execution.record.usage.get("scratch_bytes"), Some(BYTES));
}

#[test]
fn the_command_gives_one_where_it_is_asked_to() {
    let place = Place::new();
    let leave = json!({ "do": "scratch_leave", "mark": "x" });
    let refused = place.act(&leave, &[]);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    assert!(!place.path("data/scratch").exists());
    let ended = place.act(&leave, &["--scratch"]);
    assert_eq!((ended.status, ended.stdout.as_slice()), (Some(0), b"[]".as_slice()), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(place.path("data/scratch")).unwrap().count(), 0);
    let elsewhere = json!({ "do": "write_file", "path": "/tmp/x", "content": "x" });
    assert_eq!(place.act(&elsewhere, &["--scratch=/tmp"]).status, Some(0));
    let full =
        place.act(&json!({ "do": "scratch_fill", "how": "write" }), &["--scratch", "--limit", "scratch_bytes=9KiB"]);
    assert!(full.text().contains("\"times\":2"), "{}", full.text());
    assert_eq!(place.act(&leave, &["--scratch", "--grant", "llm"]).status, Some(3));
    let granted = ["llm", "trace", "events", "scratch"].map(|name| ["--grant", name]).concat();
    assert_eq!(place.act(&leave, &[&["--scratch"], granted.as_slice()].concat()).status, Some(0));
    assert_eq!(place.act(&leave, &["--scratch="]).status, Some(2));
    assert_eq!(place.act(&leave, &["--scratch", "--dir", ".::/scratch"]).status, Some(2));
}

#[test]
fn what_a_killed_command_left_goes_with_the_next() {
    let place = Place::new();
    let steps = json!([{ "do": "scratch_leave", "mark": "x" }, { "do": "print", "text": "ready\n" }, { "do": "sleep_forever" }]);
    let action = json!({ "do": "sequence", "steps": steps });
    let mut killed = place.act_command(&action, &["--scratch"]).spawn().unwrap();
    let files = || place.files("data").len();
    for _ in 0..1_000 {
        if files() >= 4 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // While it lives, another leaves its files alone.
    assert_eq!(place.act(&json!({ "do": "scratch_leave", "mark": "y" }), &["--scratch"]).status, Some(0));
    assert!(files() > 4, "its own, and the record of the other");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(files() > 4, "a killed process cleans nothing");
    assert_eq!(place.act(&json!({ "do": "scratch_leave", "mark": "z" }), &["--scratch"]).status, Some(0));
    assert_eq!(place.records().len(), 2, "nothing but records is left");
    let root = place.path("data/scratch");
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}
