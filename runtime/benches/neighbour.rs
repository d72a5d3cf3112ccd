//! What a user notices of another user's hostile guests, and what metering costs an honest one.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop there")]

#[path = "execution/bare.rs"]
mod bare;
mod common;
#[path = "neighbour/guests.rs"]
mod guests;

use std::future::Future;
use std::time::{Duration, Instant};

use holm_runtime::host_api::{Budget, BudgetName, Outcome};
use holm_runtime::workload::Workload;
use holm_runtime::{ExecutionRequest, Runtime};
use tokio::runtime::{Builder, Runtime as Threads};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use bare::Bare;
use common::{Samples, Table, component, measures, median, ms};
use guests::KERNELS;

/// A small execution ends in this time beside spinning guests, 99 times of 100.
const SPINNERS_TIME_MAX: Duration = Duration::from_millis(20);

/// Beside guests in bulk operations it ends within so many times the longest of these.
const BULK_RATIO_MAX: f64 = 5.0;

/// Kernels may take so much of what wasmtime takes with fuel.
const KERNEL_RATIO_MAX: f64 = 1.05;

/// Pages of memory that a guest has at the start.
const PAGES: u32 = 32;

fn main() {
    let threads = Builder::new_current_thread().enable_all().build().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    beside_spinners(&threads, cores);
    beside_bulk_operations(&threads, cores);
    kernels(&threads);
}

fn runtime() -> Runtime {
    Runtime::builder().build().unwrap()
}

fn take_in(runtime: &Runtime, code: &str) -> Workload {
    let workload = runtime.intake(component(PAGES, code).as_bytes()).unwrap();
    let caller = Builder::new_current_thread().enable_all().build().unwrap();
    caller.block_on(runtime.compile(&workload)).unwrap();
    workload
}

fn request(user: &str, workload: &Workload) -> ExecutionRequest {
    let budget = Budget::default().with(BudgetName::Fuel, 1 << 60).with(BudgetName::WallMs, 600_000);
    ExecutionRequest::new(user.parse().unwrap(), workload.clone()).budget(budget)
}

/// Executions of a hostile user that go on until they are told to stop.
struct Hostile {
    executions: JoinSet<()>,
    stop: CancellationToken,
}

impl Hostile {
    async fn start(runtime: &Runtime, workload: &Workload, count: usize) -> Self {
        let (mut executions, stop) = (JoinSet::new(), CancellationToken::new());
        for _ in 0..count {
            let mut request = request("mallory", workload);
            request.cancellation = stop.child_token();
            let runtime = runtime.clone();
            executions.spawn(async move {
                let execution = runtime.execute(request).await;
                assert_eq!(execution.record.outcome, Outcome::Cancelled, "{:?}", execution.record.error);
            });
        }
        tokio::time::sleep(Duration::from_millis(if measures() { 500 } else { 10 })).await;
        assert_eq!(runtime.live().len(), count, "they run");
        Hostile { executions, stop }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.executions.join_next().await {
            ended.unwrap();
        }
    }
}

/// A neighbour's executions, with a pause after each.
async fn neighbour(runtime: &Runtime, workload: &Workload, count: usize) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..count {
        let begun = Instant::now();
        let execution = runtime.execute(request("alice", workload)).await;
        samples.push(begun.elapsed());
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    samples
}

fn beside_spinners(threads: &Threads, cores: usize) {
    let (runtime, executions) = (runtime(), if measures() { 1_000 } else { 3 });
    let spin = take_in(&runtime, guests::SPIN);
    let neighbours = [
        ("echo: ends in its first slice", take_in(&runtime, "")),
        ("a millisecond of compute", take_in(&runtime, guests::SHORT)),
    ];
    let mut table = Table::new(["a neighbour's execution", "hostile guests", "median ms", "p99 ms"]);
    let mut worst = Duration::ZERO;
    for count in [0, cores, 4 * cores, 100] {
        threads.block_on(async {
            let hostile = Hostile::start(&runtime, &spin, count).await;
            for (name, workload) in &neighbours {
                let samples = neighbour(&runtime, workload, executions).await;
                table.row([name, &count.to_string(), &ms(samples.median()), &ms(samples.percentile(99))]);
                if count == 4 * cores {
                    worst = worst.max(samples.percentile(99));
                }
            }
            hostile.end().await;
        });
    }
    table.print(&format!("Beside guests that spin, on {cores} cores"));
    let verdict = if worst <= SPINNERS_TIME_MAX { "held" } else { "MISSED" };
    println!("  beside {}: at most {} ms at p99: {verdict}", 4 * cores, ms(SPINNERS_TIME_MAX));
}

fn beside_bulk_operations(threads: &Threads, cores: usize) {
    let (runtime, executions) = (runtime(), if measures() { 300 } else { 3 });
    let fill = take_in(&runtime, guests::FILL);
    let neighbours = [
        ("echo: ends in its first slice", take_in(&runtime, "")),
        ("a millisecond of compute", take_in(&runtime, guests::SHORT)),
    ];
    let longest = longest_fill(threads);
    let mut table = Table::new(["a neighbour's execution", "median ms", "p99 ms", "of the longest operation"]);
    let mut worst = 0.0_f64;
    threads.block_on(async {
        let hostile = Hostile::start(&runtime, &fill, cores).await;
        for (name, workload) in &neighbours {
            let samples = neighbour(&runtime, workload, executions).await;
            let ratio = common::ratio(samples.percentile(99), longest);
            worst = worst.max(ratio);
            table.row([name, &ms(samples.median()), &ms(samples.percentile(99)), &format!("{ratio:.2}")]);
        }
        hostile.end().await;
    });
    table.print(&format!(
        "Beside {cores} guests that fill all memory they may have, again and again; one such operation takes {} ms alone",
        ms(longest)
    ));
    let verdict = if worst <= BULK_RATIO_MAX { "held" } else { "MISSED" };
    println!("  at most {BULK_RATIO_MAX} times the longest operation at p99: {verdict}");
}

/// One operation on memory that is there already, in bare wasmtime: the median of some.
fn longest_fill(threads: &Threads) -> Duration {
    let bare = Bare::new(&wat::parse_str(component(PAGES, guests::FILL_TIMES)).unwrap());
    let input = if measures() { "twenty bytes: 1 each" } else { "ab" };
    let times = u32::try_from(input.len()).unwrap();
    let mut samples = Samples::default();
    for _ in 0..5 {
        let once = time(threads, || bare.run("a"));
        let many = time(threads, || bare.run(input));
        samples.push(many.saturating_sub(once) / (times - 1));
    }
    samples.median()
}

fn time<F: Future<Output = ()>>(threads: &Threads, work: impl FnOnce() -> F) -> Duration {
    let begun = Instant::now();
    threads.block_on(work());
    begun.elapsed()
}

/// The same code in the library and in wasmtime with fuel, which yields nowhere.
fn kernels(threads: &Threads) {
    let runtime = runtime();
    let blocks = if measures() { 15 } else { 1 };
    let mut table = Table::new(["kernel", "wasmtime ms", "Holm ms", "ratio"]);
    let mut ratios = Vec::new();
    for (name, code) in KERNELS {
        let workload = take_in(&runtime, code);
        let bare = Bare::without_yields(workload.component());
        let (mut bare_times, mut holm_times) = (Samples::default(), Samples::default());
        for _ in 0..blocks {
            bare_times.push(time(threads, || bare.run("")));
            holm_times.push(time(threads, || async {
                let execution = runtime.execute(request("alice", &workload)).await;
                assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
            }));
        }
        let ratio = common::ratio(holm_times.median(), bare_times.median());
        ratios.push(ratio);
        table.row([name, &ms(bare_times.median()), &ms(holm_times.median()), &format!("{ratio:.3}")]);
    }
    table.print("Kernels, in the library and in wasmtime's own fuel build");
    let ratio = median(ratios);
    let verdict = if ratio <= KERNEL_RATIO_MAX { "held" } else { "MISSED" };
    println!("  the median kernel takes {ratio:.3} times as long; at most {KERNEL_RATIO_MAX}: {verdict}");
}
