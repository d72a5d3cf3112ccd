//! What it costs to compile in a child process instead of this one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that fails should stop there")]

mod common;

use std::time::{Duration, Instant};

use common::{Samples, Table, measures, ms};
use holm_runtime::workload::CompiledFrom;
use holm_runtime::{CompileIn, CompilerCommand, Runtime};

/// A child may take so much longer.
const DIFFERENCE_MAX: Duration = Duration::from_millis(30);

/// Returns what is at address 0.
const SMALL: &str = r#"
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "run") (param $at i32) (param $length i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "run") (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))
"#;

fn main() {
    let runs = if measures() { 30 } else { 1 };
    let threads = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let child = CompilerCommand { program: env!("CARGO_BIN_EXE_runtime").into(), args: vec!["compile-worker".into()] };
    let agents = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prebuilt/guest-agents.wasm")).unwrap();
    let mut table =
        Table::new(["workload", "in this process ms", "in a child ms", "difference ms", "p99 of a child ms"]);
    let mut worst = Duration::ZERO;
    for (name, bytes) in [("small", SMALL.as_bytes()), ("guest-agents, 180 kB", agents.as_slice())] {
        let (mut here, mut there) = (Samples::default(), Samples::default());
        for _ in 0..runs {
            here.push(threads.block_on(compile(CompileIn::ThisProcess, bytes)));
            there.push(threads.block_on(compile(CompileIn::Child(child.clone()), bytes)));
        }
        let difference = there.median().saturating_sub(here.median());
        worst = worst.max(difference);
        table.row([name, &ms(here.median()), &ms(there.median()), &ms(difference), &ms(there.percentile(99))]);
    }
    table.print(&format!("To compile one workload; medians of {runs} runs each, interleaved"));
    let verdict = if worst <= DIFFERENCE_MAX { "held" } else { "MISSED" };
    println!("  at most {} ms more in a child: {verdict}", ms(DIFFERENCE_MAX));
}

/// Compiles in a runtime that has never seen the workload.
async fn compile(compile_in: CompileIn, bytes: &[u8]) -> Duration {
    let runtime = Runtime::builder().executions_max(1).compile_in(compile_in).build().unwrap();
    let workload = runtime.intake(bytes).unwrap();
    let begun = Instant::now();
    let from = runtime.compile(&workload).await.unwrap();
    let time = begun.elapsed();
    assert_eq!(from, CompiledFrom::Source);
    time
}
