//! A whole execution by the library, against a bare loop of wasmtime in the same process and run.
//!
//! The bare loop makes a store with fuel, limits and WASI, instantiates, calls and drops. The rows between
//! the two add to it, one after the other, what the library does besides.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop there")]

#[path = "execution/bare.rs"]
mod bare;
mod common;
#[path = "execution/guests.rs"]
mod guests;
#[path = "execution/pieces.rs"]
mod pieces;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holm_runtime::host_api::{Name, Outcome};
use holm_runtime::workload::Workload;
use holm_runtime::{ExecutionRequest, Runtime};
use tokio::runtime::{Builder, Runtime as Threads};

use bare::Bare;
use common::{Samples, Table, measures, median, ratio, us};
use pieces::{Pieces, Upto};

/// The library may take this much of the bare loop's time.
const RATIO_MAX: f64 = 2.5;

const INPUT: &str =
    "A hundred bytes go in, and the guest gives them back: this is the least that an execution can do. ..";

/// How much is measured.
struct Effort {
    blocks: usize,
    executions_a_block: usize,
    throughput: Duration,
}

fn main() {
    let effort = if measures() {
        Effort { blocks: 20, executions_a_block: 1_000, throughput: Duration::from_secs(1) }
    } else {
        Effort { blocks: 1, executions_a_block: 10, throughput: Duration::from_millis(10) }
    };
    assert_eq!(INPUT.len(), 100);
    let holm = Holm::new(&common::echo());
    let bare = Arc::new(Bare::new(holm.workload.component()));
    one_at_a_time(&holm, &bare, &effort);
    parts(&holm, &effort);
    many_at_once(&holm, &bare, &effort);
    host_calls(&effort);
}

/// The library with one workload, compiled.
#[derive(Clone)]
struct Holm {
    runtime: Runtime,
    workload: Workload,
    user: Name,
    input: Bytes,
}

impl Holm {
    fn new(guest: &str) -> Self {
        let runtime = Runtime::builder().build().unwrap();
        let workload = runtime.intake(guest.as_bytes()).unwrap();
        let holm =
            Holm { runtime, workload, user: "alice".parse().unwrap(), input: Bytes::from_static(INPUT.as_bytes()) };
        caller_thread().block_on(holm.runtime.compile(&holm.workload)).unwrap();
        holm
    }

    fn request(&self) -> ExecutionRequest {
        ExecutionRequest::new(self.user.clone(), self.workload.clone()).input(self.input.clone())
    }

    async fn execute(&self) {
        let execution = self.runtime.execute(self.request()).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
        assert_eq!(execution.output.len(), INPUT.len());
    }
}

/// What waits for an execution.
fn caller_thread() -> Threads {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Times one execution after the other.
fn block<F: Future<Output = ()>>(threads: &Threads, executions: usize, once: impl Fn() -> F) -> Samples {
    threads.block_on(async {
        let mut samples = Samples::default();
        for _ in 0..executions {
            let begun = Instant::now();
            once().await;
            samples.push(begun.elapsed());
        }
        samples
    })
}

/// A row of the first table: its times, and its ratios to the bare loop, each in the same block.
struct Row {
    name: &'static str,
    samples: Samples,
    ratios: Vec<f64>,
}

fn one_at_a_time(holm: &Holm, bare: &Bare, effort: &Effort) {
    let pieces = Pieces::new(holm.workload.component(), holm.workload.digest().to_string());
    let caller = caller_thread();
    let names = ["bare wasmtime: pooled, async, fuel, limits, WASI"].into_iter().chain(Upto::ALL.map(Upto::name));
    let mut rows: Vec<Row> = names
        .chain(["Runtime::execute, admission to record"])
        .map(|name| Row { name, samples: Samples::default(), ratios: Vec::new() })
        .collect();
    for number in 0..=effort.blocks {
        let mut blocks = vec![block(&caller, effort.executions_a_block, || bare.run(INPUT))];
        for upto in Upto::ALL {
            blocks.push(block(&caller, effort.executions_a_block, || pieces.run(upto, INPUT)));
        }
        blocks.push(block(&caller, effort.executions_a_block, || holm.execute()));
        // The first is for caches and pools to fill.
        if number > 0 || !measures() {
            let unit = blocks.first().unwrap().median();
            for (row, samples) in rows.iter_mut().zip(blocks) {
                row.ratios.push(ratio(samples.median(), unit));
                row.samples.extend(samples);
            }
        }
    }
    let mut table = Table::new(["each row adds to the one above", "median µs", "+ µs", "p99 µs", "ratio"]);
    let mut above = None;
    for row in &rows {
        let time = row.samples.median();
        let added = above.map_or(String::new(), |above: f64| format!("{:+.1}", time.as_secs_f64() * 1e6 - above));
        above = Some(time.as_secs_f64() * 1e6);
        let in_blocks = format!("{:.2}", median(row.ratios.clone()));
        table.row([row.name, &us(time), &added, &us(row.samples.percentile(99)), &in_blocks]);
    }
    table.print(&format!(
        "One execution after the other: 64 KiB of memory, 100 bytes in and out; {} blocks of {}, interleaved",
        effort.blocks, effort.executions_a_block
    ));
    let whole = median(rows.last().unwrap().ratios.clone());
    let verdict = if whole <= RATIO_MAX { "held" } else { "MISSED" };
    println!("  the library takes {whole:.2} times the bare loop; at most {RATIO_MAX}: {verdict}");
}

/// What of an execution can be called by itself.
fn parts(holm: &Holm, effort: &Effort) {
    let times = effort.blocks * effort.executions_a_block;
    let caller = caller_thread();
    let request = holm.request();
    let mut table = Table::new(["parts, called by themselves", "µs"]);
    let mut part = |name: &str, mut once: Box<dyn FnMut() + '_>| {
        let begun = Instant::now();
        (0..times).for_each(|_| once());
        table.row([name, &format!("{:.2}", begun.elapsed().as_secs_f64() * 1e6 / times as f64)]);
    };
    part("ExecutionRequest::new", Box::new(|| drop(std::hint::black_box(holm.request()))));
    part("clone of a request", Box::new(|| drop(std::hint::black_box(request.clone()))));
    part("Runtime::check (grants, input)", Box::new(|| holm.runtime.check(&request).unwrap()));
    part(
        "Runtime::compile (found in memory)",
        Box::new(|| {
            caller.block_on(holm.runtime.compile(&holm.workload)).unwrap();
        }),
    );
    part(
        "a task spawned and joined on one thread",
        Box::new(|| caller.block_on(async { tokio::spawn(async {}).await.unwrap() })),
    );
    let others = Builder::new_multi_thread().enable_all().build().unwrap();
    part(
        "a task spawned on another thread and joined: where the first slice does not end it",
        Box::new(|| caller.block_on(async { others.spawn(async {}).await.unwrap() })),
    );
    table.print("Where time goes besides");
}

/// Executions a second, with several callers at once.
fn many_at_once(holm: &Holm, bare: &Arc<Bare>, effort: &Effort) {
    let callers = Builder::new_multi_thread().enable_all().build().unwrap();
    let mut table = Table::new(["callers at once", "bare /s", "Holm /s", "ratio"]);
    for count in [1, 2, 8, 32, 128] {
        let (mut bare_rates, mut holm_rates) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let bare = Arc::clone(bare);
            bare_rates.push(rate(&callers, count, effort.throughput, move || {
                let bare = Arc::clone(&bare);
                async move { bare.run(INPUT).await }
            }));
            let holm = holm.clone();
            holm_rates.push(rate(&callers, count, effort.throughput, move || {
                let holm = holm.clone();
                async move { holm.execute().await }
            }));
        }
        let (bare_rate, holm_rate) = (median(bare_rates), median(holm_rates));
        table.row([
            &count.to_string(),
            &format!("{bare_rate:.0}"),
            &format!("{holm_rate:.0}"),
            &format!("{:.2}", bare_rate / holm_rate),
        ]);
    }
    table.print("Executions a second (median of 3 runs each, interleaved)");
}

fn rate<F>(callers: &Threads, count: usize, time: Duration, once: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    callers.block_on(async {
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let (over, done, once) = (Arc::clone(&over), Arc::clone(&done), once.clone());
                tokio::spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        once().await;
                        done.fetch_add(1, Ordering::Relaxed);
                        // What does not wait by itself has to let go of its thread now and then.
                        tokio::task::coop::consume_budget().await;
                    }
                })
            })
            .collect();
        tokio::time::sleep(time).await;
        over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
    });
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// What a call from the guest to the host costs: WASI's monotonic clock, on both sides.
fn host_calls(effort: &Effort) {
    let holm = Holm::new(guests::CLOCK);
    let bare = Bare::new(holm.workload.component());
    let caller = caller_thread();
    let (mut bare_ns, mut holm_ns) = (Vec::new(), Vec::new());
    let each = |samples: Samples| samples.median().as_secs_f64() * 1e9 / f64::from(guests::CLOCK_CALLS);
    for _ in 0..effort.blocks {
        bare_ns.push(each(block(&caller, 20, || bare.run(INPUT))));
        holm_ns.push(each(block(&caller, 20, || holm.execute())));
    }
    let (bare_ns, holm_ns) = (median(bare_ns), median(holm_ns));
    let mut table = Table::new(["one call of wasi:clocks/monotonic-clock.now", "ns", "ratio"]);
    table.row(["bare wasmtime", &format!("{bare_ns:.0}"), "1.00"]);
    table.row(["Holm: counted, billed, preempted", &format!("{holm_ns:.0}"), &format!("{:.2}", holm_ns / bare_ns)]);
    table.print(&format!("Host calls ({} in one execution)", guests::CLOCK_CALLS));
}
