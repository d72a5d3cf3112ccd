//! Ten thousand executions that wait in a host call at once: what each takes, and how it is beside them.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop there")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use holm_runtime::host_api::{
    Budget, BudgetName, Capability, CapabilityContext, Denied, Ending, Gate, HostError, Name, Outcome, State,
};
use holm_runtime::workload::Workload;
use holm_runtime::{Execution, ExecutionRequest, Held, Runtime};
use tokio::task::JoinSet;
use wasmtime::component::Linker;

use common::{Samples, Table, measures, ms, ratio, us};

/// Users that the executions belong to.
const USERS: usize = 100;

/// How long the executions may take to come to rest.
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// Waits in a host function, after it wrote to four pages of its memory.
const PARKED: &str = r#"
(component
  (import "bench:park/park@0.1.0" (instance $park (export "wait" (func))))
  (core func $wait (canon lower (func $park "wait")))
  (core module $m
    (import "host" "wait" (func $wait))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "run") (param $at i32) (param $length i32) (result i32)
      (i32.store (i32.const 4096) (i32.const 1))
      (i32.store (i32.const 8192) (i32.const 1))
      (i32.store (i32.const 12288) (i32.const 1))
      (call $wait)
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "host" (instance (export "wait" (func $wait))))))
  (func (export "run") (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))
"#;

fn main() {
    let (parked_max, fresh) = if measures() { (10_000, 1_000) } else { (10, 10) };
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    threads.block_on(run(parked_max, fresh));
}

async fn run(parked_max: usize, fresh: usize) {
    let park = Park::default();
    let room = u32::try_from(parked_max).unwrap() + 100;
    let runtime = Runtime::builder().executions_max(room).capability(park.clone()).build().unwrap();
    println!("\n{:?}", runtime.allocation());
    let waiting = runtime.intake(PARKED.as_bytes()).unwrap();
    let echo = runtime.intake(common::echo().as_bytes()).unwrap();
    runtime.compile(&waiting).await.unwrap();
    let alone = fresh_executions(&runtime, &echo, fresh).await;
    let (before, held_before) = (Process::now(), runtime.held());

    let begun = Instant::now();
    let mut executions = JoinSet::new();
    let mut ids = Vec::with_capacity(parked_max);
    for number in 0..parked_max {
        let request = request(&waiting, number);
        ids.push((request.user.clone(), request.execution));
        let runtime = runtime.clone();
        executions.spawn(async move { runtime.execute(request).await });
    }
    park.wait_for(parked_max, &mut executions).await;
    let started = begun.elapsed();
    let (during, held_during) = (Process::now(), runtime.held());
    let beside = fresh_executions(&runtime, &echo, fresh).await;

    let begun = Instant::now();
    assert!(ids.iter().all(|(user, execution)| runtime.cancel(user, *execution)));
    while let Some(execution) = executions.join_next().await {
        assert_eq!(execution.unwrap().record.outcome, Outcome::Cancelled);
    }
    let ended = begun.elapsed();
    let held_after = settled(&runtime).await;
    let after = Process::now();

    print_memory(parked_max, before, during, after);
    print_times(parked_max, started, ended, &alone, &beside);
    print_held(&[("before", held_before), ("parked", held_during), ("after", held_after)]);
    assert!(is_zero(held_before) && is_zero(held_after), "something is left: {held_after:?}");
    assert_eq!((held_during.executions, held_during.permits), (parked_max, parked_max));
}

/// Each of another of the users, with more than enough time.
fn request(workload: &Workload, number: usize) -> ExecutionRequest {
    let user: Name = format!("user{}", number % USERS).parse().unwrap();
    let budget = Budget::default().with(BudgetName::WallMs, 600_000);
    ExecutionRequest::new(user, workload.clone()).budget(budget)
}

async fn fresh_executions(runtime: &Runtime, workload: &Workload, count: usize) -> Samples {
    let mut samples = Samples::default();
    for number in 0..count {
        let request = request(workload, number).input("hello");
        let begun = Instant::now();
        let execution = runtime.execute(request).await;
        samples.push(begun.elapsed());
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    }
    samples
}

/// What is held once the guests' threads have put the last things away.
async fn settled(runtime: &Runtime) -> Held {
    for _ in 0..1_000 {
        if is_zero(runtime.held()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    runtime.held()
}

fn is_zero(held: Held) -> bool {
    held.executions + held.permits + held.tasks + held.memories.unwrap_or(0) == 0 && held.instances.unwrap_or(0) == 0
}

/// A capability of the bench's own: its one function waits until the execution is cancelled.
#[derive(Clone, Default)]
struct Park {
    parked: Arc<AtomicUsize>,
}

struct ParkContext;

impl Park {
    async fn wait_for(&self, count: usize, executions: &mut JoinSet<Execution>) {
        let begun = Instant::now();
        while self.parked.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let ended = executions.try_join_next();
            assert!(ended.is_none(), "an execution did not wait: {ended:?}");
            assert!(begun.elapsed() < START_TIME_MAX, "only {} wait", self.parked.load(Ordering::Relaxed));
        }
    }
}

impl Capability for Park {
    fn name(&self) -> &'static str {
        "park"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["bench:park/park@0.1.0"]
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        let parked = Arc::clone(&self.parked);
        linker.instance("bench:park/park@0.1.0")?.func_wrap_async("wait", move |mut store, (): ()| {
            let gate = Arc::clone(store.data_mut().view::<ParkContext>().gate());
            let parked = Arc::clone(&parked);
            Box::new(async move {
                let call = gate.enter("park", "wait")?;
                parked.fetch_add(1, Ordering::Relaxed);
                let denied = call.race(std::future::pending::<Result<(), Denied>>()).await;
                parked.fetch_sub(1, Ordering::Relaxed);
                call.end_with(&denied, |()| serde_json::Value::Null);
                Ok(())
            })
        })
    }

    fn open<'a>(&'a self, _gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        std::future::ready(Ok(Box::new(ParkContext) as Box<dyn CapabilityContext>)).boxed()
    }
}

impl CapabilityContext for ParkContext {
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// What this process takes.
#[derive(Clone, Copy)]
struct Process {
    resident_kib: u64,
    page_tables_kib: u64,
    maps: usize,
}

impl Process {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().count();
        Process { resident_kib: kib("VmRSS:"), page_tables_kib: kib("VmPTE:"), maps }
    }
}

fn print_memory(count: usize, before: Process, during: Process, after: Process) {
    let mut table = Table::new(["memory", "before", "parked", "after", "each"]);
    let mut row = |name: &str, of: fn(Process) -> f64, unit: &str| {
        let each = (of(during) - of(before)) / count as f64;
        let cell = |process| format!("{:.0}", of(process));
        table.row([name, &cell(before), &cell(during), &cell(after), &format!("{each:.1} {unit}")]);
    };
    row("resident, KiB", |process| process.resident_kib as f64, "KiB");
    row("page tables, KiB", |process| process.page_tables_kib as f64, "KiB");
    row("mappings", |process| process.maps as f64, "");
    table.print(&format!("{count} executions of {USERS} users parked in a host call, four pages written by each"));
    let maps_max = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    println!("  the kernel allows {} mappings (vm.max_map_count)", maps_max.trim());
}

fn print_times(count: usize, started: Duration, ended: Duration, alone: &Samples, beside: &Samples) {
    let mut table = Table::new(["time", "all, ms", "each, µs"]);
    let each = |time: Duration| us(time / u32::try_from(count).unwrap());
    table.row(["to start all, until the last one waits", &ms(started), &each(started)]);
    table.row(["to cancel all, until the last record is there", &ms(ended), &each(ended)]);
    table.print("Start and end");
    let mut table = Table::new(["a fresh small execution", "median µs", "p99 µs", "ratio"]);
    table.row(["alone", &us(alone.median()), &us(alone.percentile(99)), "1.00"]);
    let slower = format!("{:.2}", ratio(beside.median(), alone.median()));
    table.row([&format!("beside {count} parked"), &us(beside.median()), &us(beside.percentile(99)), &slower]);
    table.print("A neighbour");
}

fn print_held(rows: &[(&str, Held)]) {
    let mut table = Table::new(["Runtime::held()", "executions", "permits", "instances", "memories", "tasks"]);
    for (name, held) in rows {
        let [executions, permits, tasks] = [held.executions, held.permits, held.tasks].map(|count| count.to_string());
        let pooled = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let memories = pooled(held.memories.map(|count| count as u64));
        table.row([name, &executions, &permits, &pooled(held.instances), &memories, &tasks]);
    }
    table.print("What is held");
}
