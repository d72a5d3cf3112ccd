//! `runtime exec` of a small workload that was compiled before: from the start of the process to its exit.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop there")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Samples, Table, measures, ms};

/// The whole command may take so long.
const TIME_MAX: Duration = Duration::from_millis(40);

fn main() {
    let runs = if measures() { 50 } else { 2 };
    let folder = tempfile::tempdir().unwrap();
    let workload = folder.path().join("echo.wat");
    std::fs::write(&workload, common::echo()).unwrap();
    let mut rows = [
        ("/bin/true", Samples::default()),
        ("runtime limits (no engine, no workload)", Samples::default()),
        ("runtime exec", Samples::default()),
    ];
    exec(folder.path());
    for _ in 0..runs {
        for ((_, samples), mut command) in
            rows.iter_mut().zip([Command::new("/bin/true"), limits(), exec_command(folder.path())])
        {
            let begun = Instant::now();
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
            samples.push(begun.elapsed());
            assert!(status.success(), "{command:?}: {status}");
        }
    }
    let mut table = Table::new(["command", "median ms", "p99 ms"]);
    for (name, samples) in &rows {
        table.row([name, &ms(samples.median()), &ms(samples.percentile(99))]);
    }
    table.print(&format!("From the start of a process to its exit; {runs} runs each, interleaved"));
    let [.., (_, samples)] = &rows;
    let verdict = if samples.median() <= TIME_MAX { "held" } else { "MISSED" };
    println!("  at most {} ms: {verdict}", ms(TIME_MAX));
}

fn limits() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runtime"));
    command.arg("limits");
    command
}

fn exec_command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runtime"));
    command.arg("exec").arg(folder.join("echo.wat"));
    command.args(["--user", "alice", "--input", "hello", "--quiet"]);
    command.arg("--data").arg(folder.join("data")).arg("--cache-dir").arg(folder.join("cache"));
    command
}

/// Compiles the workload, and sees that it runs.
fn exec(folder: &Path) {
    let output = exec_command(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"hello");
}
