//! What others wrote is compiled in a child: bounded, once, and nothing of it stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_host_api::Outcome;
use holm_runtime::workload::{CompileError, CompiledFrom, Workload};
use holm_runtime::{CompileIn, CompileLimits, CompilerCommand, ExecutionRequest, Runtime};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{BINARY, Place, Running, eventually};
use crate::support::{ECHO, first, name};

/// A compiler under a name of its own, so that its processes can be told from those of other tests.
struct Compiler {
    folder: TempDir,
}

impl Compiler {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(BINARY, folder.path().join("compiler")).unwrap();
        Compiler { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("compiler")
    }

    fn runtime(&self, limits: CompileLimits) -> Runtime {
        let compile_in = compile_in(&self.program());
        Runtime::builder().executions_max(4).compile_in(compile_in).compile_limits(limits).build().unwrap()
    }

    /// What the kernel shows of its processes: a folder each.
    fn processes(&self) -> Vec<PathBuf> {
        let name = self.program().into_os_string().into_encoded_bytes();
        let is_ours = |path: &PathBuf| std::fs::read(path.join("cmdline")).is_ok_and(|line| line.starts_with(&name));
        std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).filter(is_ours).collect()
    }

    fn assert_gone(&self) {
        eventually(|| self.processes().is_empty());
    }
}

fn compile_in(program: &Path) -> CompileIn {
    CompileIn::Child(CompilerCommand { program: program.to_owned(), args: vec!["compile-worker".into()] })
}

/// One function that takes seconds and hundreds of megabytes to compile.
fn heavy() -> Vec<u8> {
    let step = "(local.set $x (i32.xor (local.get $x) (i32.load (i32.shl (local.get $x) (i32.const 3)))))";
    let long = format!("(func (param $x i32) (result i32) {} (local.get $x))", step.repeat(100_000));
    wat::parse_str(first(&long, "")).unwrap()
}

async fn echoes(runtime: &Runtime, text: &str) -> bool {
    let echo = runtime.intake(ECHO.as_bytes()).unwrap();
    let execution = runtime.execute(ExecutionRequest::new(name("neighbour"), echo).input(text.to_owned())).await;
    execution.output == text.as_bytes()
}

fn refusal(result: Result<CompiledFrom, CompileError>) -> String {
    match result {
        Err(refused @ (CompileError::Refused(_) | CompileError::TookTooLong(_))) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_child_makes_the_same_code_as_this_process() {
    let (compiler, cache) = (Compiler::new(), tempfile::tempdir().unwrap());
    let places = [compile_in(&compiler.program()), CompileIn::ThisProcess];
    for (first, second) in [(0, 1), (1, 0)] {
        let cache = cache.path().join(first.to_string());
        for (place, expected) in [(first, CompiledFrom::Source), (second, CompiledFrom::Disk)] {
            let builder = Runtime::builder().executions_max(2).cache_dir(&cache);
            let runtime = builder.compile_in(places[place].clone()).build().unwrap();
            let echo = runtime.intake(ECHO.as_bytes()).unwrap();
            assert_eq!(runtime.compile(&echo).await.unwrap(), expected);
            assert!(echoes(&runtime, "the same").await);
            assert_eq!(runtime.compilations_started(), u64::from(expected == CompiledFrom::Source));
        }
    }
    compiler.assert_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_much_to_compile_is_refused_by_name_and_hurts_nobody() {
    let heavy = heavy();
    let default = CompileLimits::default();
    for (limits, expected) in [
        (CompileLimits { wall_ms: 300, ..default }, "it takes more than 0.3 s"),
        (CompileLimits { cpu_seconds: 1, ..default }, "it takes more than 1 s of CPU time"),
        (CompileLimits { memory_bytes: 64 << 20, ..default }, "it takes more than 64 MiB of memory"),
        (CompileLimits { code_bytes: 1 << 20, ..default }, "it becomes more than 1 MiB of code"),
    ] {
        let compiler = Compiler::new();
        let runtime = compiler.runtime(limits);
        assert!(echoes(&runtime, "before").await, "{expected}: the limits are for the small too");
        let workload = runtime.intake(&heavy).unwrap();
        let compiling = tokio::spawn({
            let (runtime, workload) = (runtime.clone(), workload.clone());
            async move { runtime.compile(&workload).await }
        });
        assert!(echoes(&runtime, "meanwhile").await);
        let begun = Instant::now();
        assert_eq!(refusal(compiling.await.unwrap()), format!("the workload cannot be compiled: {expected}"));
        if limits.wall_ms < default.wall_ms {
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        assert!(echoes(&runtime, "after").await);
        compiler.assert_gone();
    }
}

#[tokio::test]
async fn a_child_has_nothing_of_its_parent_and_little_of_its_own() {
    let compiler = Compiler::new();
    // One that a child would inherit, as libraries in other languages leave them.
    let _open = rustix::io::dup(std::io::stderr()).unwrap();
    let runtime = compiler.runtime(CompileLimits { cpu_seconds: 50, ..CompileLimits::default() });
    let workload = runtime.intake(&heavy()).unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(100), runtime.compile(&workload)).await;
    eventually(|| !compiler.processes().is_empty());
    let processes = compiler.processes();
    let read = |name: &str| std::fs::read_to_string(processes[0].join(name)).unwrap();
    let limit = |name: &str| {
        let limits = read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    // The last that is set, just before the compiler begins.
    eventually(|| limit("Max processes") == "0 0");
    assert_eq!(limit("Max cpu time"), "50 51");
    assert_eq!(limit("Max data size"), format!("{0} {0}", 2_u64 << 30));
    assert_eq!(limit("Max address space"), format!("{0} {0}", 6_u64 << 30));
    assert_eq!(limit("Max core file size"), "0 0");
    assert_eq!(limit("Max file size"), "0 0");
    assert_eq!(limit("Max open files"), "3 3");
    assert_eq!(std::fs::read_dir(processes[0].join("fd")).unwrap().count(), 3);
    assert_eq!(read("environ"), "");
    assert_eq!(std::fs::read_link(processes[0].join("cwd")).unwrap(), Path::new("/"));
    assert!(read("status").contains("NoNewPrivs:\t1\n"));
    drop(runtime);
    compiler.assert_gone();
}

#[tokio::test]
async fn a_refusal_is_remembered() {
    let compiler = Compiler::new();
    let runtime = compiler.runtime(CompileLimits { wall_ms: 200, ..CompileLimits::default() });
    let workload = runtime.intake(&heavy()).unwrap();
    let first = refusal(runtime.compile(&workload).await);
    for _ in 0..3 {
        assert_eq!(refusal(runtime.compile(&workload).await), first);
        let execution = runtime.execute(ExecutionRequest::new(name("alice"), workload.clone())).await;
        assert_eq!((execution.record.outcome, execution.record.error), (Outcome::Refused, Some(first.clone())));
    }
    assert_eq!(runtime.compilations_started(), 1);
}

#[tokio::test]
async fn a_failure_of_the_host_is_not_remembered() {
    let compiler = Compiler::new();
    let echo = |runtime: &Runtime| runtime.intake(ECHO.as_bytes()).unwrap();
    for program in ["/nonexistent", "/bin/false", "/bin/true", "/bin/echo"] {
        let builder = Runtime::builder().executions_max(2);
        let runtime = builder.compile_in(compile_in(Path::new(program))).build().unwrap();
        for attempt in 1..3 {
            match runtime.compile(&echo(&runtime)).await {
                Err(CompileError::Host(error)) => assert_eq!(error.message(), "the compiler failed"),
                other => panic!("{program}: {other:?}"),
            }
            assert_eq!(runtime.compilations_started(), attempt, "{program}");
        }
    }
    let runtime = compiler.runtime(CompileLimits::default());
    std::fs::rename(compiler.program(), compiler.folder.path().join("away")).unwrap();
    assert!(matches!(runtime.compile(&echo(&runtime)).await, Err(CompileError::Host(_))));
    std::fs::rename(compiler.folder.path().join("away"), compiler.program()).unwrap();
    assert_eq!(runtime.compile(&echo(&runtime)).await.unwrap(), CompiledFrom::Source);
}

#[tokio::test]
async fn callers_that_go_away_take_the_compilation_from_nobody() {
    let compiler = Compiler::new();
    let runtime = compiler.runtime(CompileLimits::default());
    let workload = runtime.intake(&std::fs::read(holm_test_artifacts::PROBE).unwrap()).unwrap();
    let caller = |runtime: Runtime, workload: Workload| async move { runtime.compile(&workload).await };
    let first = tokio::spawn(caller(runtime.clone(), workload.clone()));
    while runtime.compilations_started() == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..4).map(|_| tokio::spawn(caller(runtime.clone(), workload.clone()))).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), CompiledFrom::Source);
    }
    assert_eq!(runtime.compilations_started(), 1);
    compiler.assert_gone();
}

#[tokio::test]
async fn a_compilation_that_nobody_waits_for_keeps_to_its_limits() {
    let compiler = Compiler::new();
    let runtime = compiler.runtime(CompileLimits { wall_ms: 500, ..CompileLimits::default() });
    let workload = runtime.intake(&heavy()).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), runtime.compile(&workload)).await.is_err());
    compiler.assert_gone();
    refusal(runtime.compile(&workload).await);
    assert_eq!(runtime.compilations_started(), 1);
}

#[tokio::test]
async fn a_runtime_takes_its_compiler_with_it() {
    let compiler = Arc::new(Compiler::new());
    let runtime = compiler.runtime(CompileLimits::default());
    let workload = runtime.intake(&heavy()).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), runtime.compile(&workload)).await.is_err());
    eventually(|| compiler.processes().len() == 1);
    let begun = Instant::now();
    drop(runtime);
    compiler.assert_gone();
    assert!(begun.elapsed() < Duration::from_secs(2), "it ended by itself: {:?}", begun.elapsed());
}

/// Processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ppid = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        ppid == Some(parent)
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    processes.filter_map(|name| name.to_str()?.parse().ok()).filter(is_child).collect()
}

/// Whether a process still does something. What nobody has asked for its status does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn the_compiler_dies_with_the_command_however_that_dies() {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let place = Place::new();
        let heavy = place.file("heavy.wasm", heavy());
        let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "cache"]);
        command.arg(heavy);
        let mut running = Running::start(command);
        running.until("compiling ");
        let compilers = children(running.id());
        assert_eq!(compilers.len(), 1, "{compilers:?}");
        let begun = Instant::now();
        running.signal(signal);
        running.wait(|_| {});
        eventually(|| !compilers.iter().copied().any(runs));
        assert!(begun.elapsed() < Duration::from_secs(3), "{signal:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn processes_share_a_folder_from_the_first_moment() {
    let place = Place::new();
    let echo = place.file("echo.wat", ECHO.as_bytes());
    let start = |number: usize| {
        let mut command = place.bare(["exec", "--user", "alice", "--quiet", "-v", "--input"]);
        command.arg(number.to_string()).args(["--data", "data", "--cache-dir", "cache"]).arg(&echo);
        Running::start(command)
    };
    for _ in 0..2 {
        let running: Vec<_> = (0..6).map(start).collect();
        for (number, running) in running.into_iter().enumerate() {
            let ended = running.end().with_status(0);
            assert_eq!(ended.text(), number.to_string());
            assert_eq!(ended.stderr, "", "no file was found damaged");
        }
    }
    let files = place.files("cache");
    assert_eq!(files.len(), 2, "the code and the key: {files:?}");
    let runtime = Runtime::builder().executions_max(1).cache_dir(place.path("cache")).build().unwrap();
    let echo = runtime.intake(ECHO.as_bytes()).unwrap();
    let threads = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(threads.block_on(runtime.compile(&echo)).unwrap(), CompiledFrom::Disk);
}

#[test]
fn the_worker_explains_itself_to_those_who_start_it_by_hand() {
    let place = Place::new();
    let expected = "this is how Holm starts its own compiler: it reads an order on stdin, which is not for use by \
                    hand\n";
    for nonsense in [&b""[..], b"hello\n", b"{}\n", &[0xff; 100_000]] {
        let ended = place.feed(place.bare(["compile-worker"]), nonsense).with_status(6);
        assert_eq!((ended.text(), ended.stderr.as_str()), ("", expected));
    }
    let order = br#"{"engine":"other","component_bytes":8,"limits":{"memory_bytes":1073741824,"cpu_seconds":10,
        "wall_ms":1,"code_bytes":1,"threads":1}}"#;
    let order = [&order.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>()[..], b"\n\0asm"].concat();
    let ended = place.feed(place.bare(["compile-worker"]), order).with_status(6);
    let expected = "the compiler is of another version than the program that started it\n";
    assert_eq!((ended.text(), ended.stderr.as_str()), ("", expected));
}
