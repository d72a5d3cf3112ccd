//! What the tests share: a runtime whose backends can be read, guests, and a neighbour.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holm_host_api::events::MemoryEvents;
use holm_host_api::llm::{OfflineProvider, Script};
use holm_host_api::trace::MemoryTrace;
use holm_host_api::{Budget, BudgetName, Name, Outcome};
use holm_runtime::workload::Workload;
use holm_runtime::{Execution, ExecutionRequest, Held, Runtime, RuntimeBuilder};
use serde_json::Value;

/// A runtime, and the backends behind it.
pub struct Host {
    pub runtime: Runtime,
    pub events: MemoryEvents,
    pub trace: MemoryTrace,
}

impl Host {
    pub fn new() -> Self {
        Host::with(|builder| builder)
    }

    pub fn scripted(script: &Value) -> Self {
        let script = Script::from_json(&script.to_string()).unwrap();
        Host::with(|builder| builder.llm(OfflineProvider::with_script(script)))
    }

    pub fn with(configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Self {
        let (events, trace) = (MemoryEvents::default(), MemoryTrace::default());
        let builder =
            Runtime::builder().executions_max(200).cache_dir(cache_dir()).events(events.clone()).trace(trace.clone());
        Host { runtime: configure(builder).build().unwrap(), events, trace }
    }

    /// A workload from the text format.
    pub fn text(&self, text: &str) -> Workload {
        self.runtime.intake(text.as_bytes()).unwrap()
    }

    pub fn probe(&self) -> Workload {
        self.runtime.intake(&std::fs::read(holm_test_artifacts::PROBE).unwrap()).unwrap()
    }

    pub fn command(&self) -> Workload {
        self.runtime.intake(&std::fs::read(holm_test_artifacts::COMMAND).unwrap()).unwrap()
    }

    /// Runs the probe for alice.
    pub async fn act(&self, action: Value) -> Execution {
        self.act_within(action, Budget::default()).await
    }

    pub async fn act_within(&self, action: Value, budget: Budget) -> Execution {
        self.runtime.execute(self.request(action).budget(budget)).await
    }

    pub fn request(&self, action: Value) -> ExecutionRequest {
        ExecutionRequest::new(name("alice"), self.probe()).input(action.to_string())
    }

    /// Runs a request beside a neighbour, and shows that the neighbour is untouched and nothing is left.
    pub async fn beside_a_neighbour(&self, request: ExecutionRequest) -> Execution {
        let neighbour = ExecutionRequest::new(name("neighbour"), self.text(&ECHO)).input("still here");
        let (ended, neighbour) = tokio::join!(self.runtime.execute(request), self.runtime.execute(neighbour));
        assert_eq!(neighbour.record.outcome, Outcome::Completed);
        assert_eq!(neighbour.output, b"still here");
        let after = ExecutionRequest::new(name("neighbour"), self.text(&ECHO)).input("and after");
        assert_eq!(self.runtime.execute(after).await.output, b"and after");
        self.assert_nothing_held().await;
        ended
    }

    /// Instances, permits, registry entries and tasks are all gone.
    pub async fn assert_nothing_held(&self) {
        let nothing = Held { executions: 0, permits: 0, instances: Some(0), memories: Some(0), tasks: 0 };
        for _ in 0..200 {
            if self.runtime.held() == nothing {
                return;
            }
            // The task that ran an execution ends a moment after its result is there.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.runtime.held(), nothing);
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Compiled guests, shared by all tests and by one run with the next.
pub fn cache_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A compute budget that a hostile guest burns in a moment.
pub fn small() -> Budget {
    Budget::default().with(BudgetName::Fuel, 50_000_000).with(BudgetName::WallMs, 10_000)
}

pub fn output(execution: &Execution) -> Value {
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    serde_json::from_slice(&execution.output).unwrap()
}

/// The budget that ended an execution.
pub fn exceeded(execution: &Execution) -> BudgetName {
    match execution.record.outcome {
        Outcome::BudgetExceeded(exhausted) => exhausted.budget,
        other => panic!("{other:?}: {:?}", execution.record.error),
    }
}

/// A component that exports `run`. `run` is the body of a function that gets `$ptr` and `$len` of the input
/// and leaves a pointer to its result; `more` are other items of the module.
pub fn workload(more: &str, run: &str) -> String {
    format!(
        r#"(component
          (core module $m
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (local $at i32)
              (local.set $at (global.get $next))
              (global.set $next (i32.add (global.get $next) (local.get 3)))
              (block $fits (loop $grow
                (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                (br_if $fits (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
                (br $grow)))
              (local.get $at))
            {more}
            (func (export "run") (param $ptr i32) (param $len i32) (result i32) {run}))
          (core instance $i (instantiate $m))
          (func (export "run") (param "input" string) (result (result string (error string)))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    )
}

/// Leaves `ok` with the input.
const RETURN_INPUT: &str = "(i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $ptr)) (i32.store (i32.const 8) (local.get $len)) (i32.const 0)";

/// Returns its input.
pub static ECHO: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| workload("", RETURN_INPUT).into());

/// Does something, then returns its input.
pub fn first(more: &str, body: &str) -> String {
    workload(more, &format!("{body} {RETURN_INPUT}"))
}
