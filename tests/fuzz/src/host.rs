//! One runtime for all inputs, and what holds for every execution whatever the guest did.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use holm_host_api::llm::{OfflineProvider, Script};
use holm_host_api::{Budget, BudgetName, Outcome, sanitize_text};
use holm_runtime::workload::Workload;
use holm_runtime::{Execution, ExecutionRequest, Held, Runtime};
use tempfile::TempDir;

/// Models that answer late, wrongly or never.
const SCRIPT: &str = r#"{"rules": [
    {"when": {"model": "never"}, "reply": {"never": true}},
    {"when": {"model": "late"}, "reply": {"text": "late"}, "delay_ms": 3},
    {"when": {"model": "dear"}, "reply": {"text": "dear"}, "usage": {"cost_microusd": 18446744073709551615}},
    {"when": {"model": "long"}, "reply": {"text": "l o n g"}, "usage": {"output_tokens": 18446744073709551615}},
    {"when": {"model": "json"}, "reply": {"json": {"a": [1, null, "\u0000"]}}},
    {"when": {"model": "tools"}, "reply": {"tool_calls": [{"name": "t", "arguments": {"a": 1}}, {"name": "u"}]}},
    {"when": {"model": "failed"}, "reply": {"error": {"kind": "all_failed", "message": "\u001b[2J"}}},
    {"when": {"model": "refused"}, "reply": {"error": {"kind": "refused", "message": "no"}}}
]}"#;

pub struct Host {
    pub runtime: Runtime,
    tokio: tokio::runtime::Runtime,
    folder: TempDir,
}

/// The runtime, made at the first use.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("given/below")).expect("a folder");
        fs::write(folder.path().join("given/a.txt"), "some text\n").expect("a file");
        let script = Script::from_json(SCRIPT).expect("a script");
        let runtime = Runtime::builder()
            .executions_max(4)
            .guest_threads(1)
            .scratch_dir(folder.path().join("scratch"))
            .llm(OfflineProvider::with_script(script))
            .build()
            .expect("a runtime");
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Host { runtime, tokio, folder }
    })
}

impl Host {
    /// A folder of the host with a file in it, for reading.
    pub fn given(&self) -> std::path::PathBuf {
        self.folder.path().join("given")
    }

    /// A request for a user, with this workload.
    pub fn request(&self, workload: &Workload) -> ExecutionRequest {
        ExecutionRequest::new("alice".parse().expect("a name"), workload.clone())
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.tokio.block_on(future)
    }

    /// Runs to the end and checks what always holds.
    pub fn execute(&self, request: ExecutionRequest) -> Execution {
        let budget = request.budget.clone();
        let execution = self.block_on(self.runtime.execute(request));
        check_execution(&execution, &budget);
        self.check_nothing_held();
        execution
    }

    fn check_nothing_held(&self) {
        let nothing = Held { executions: 0, permits: 0, instances: Some(0), memories: Some(0), tasks: 0 };
        let until = Instant::now() + Duration::from_secs(5);
        // The task that ran an execution ends a moment after its result is there.
        while self.runtime.held() != nothing {
            assert!(Instant::now() < until, "still held: {:?}", self.runtime.held());
            std::thread::sleep(Duration::from_micros(100));
        }
        let scratch = fs::read_dir(self.folder.path().join("scratch")).into_iter().flatten().flatten();
        let left: Vec<_> = scratch.map(|entry| entry.file_name()).collect();
        // The folder of this runtime, which has a folder for each execution.
        for folder in &left {
            let inside = fs::read_dir(self.folder.path().join("scratch").join(folder)).into_iter().flatten();
            assert_eq!(inside.count(), 0, "a scratch folder was left");
        }
    }
}

/// A budget that a hostile guest uses up in a moment.
pub fn small_budget() -> Budget {
    use BudgetName::*;
    [
        (Fuel, 20_000_000),
        (WallMs, 300),
        (MemoryBytes, 8 << 20),
        (TableElements, 1_000),
        (Handles, 40),
        (HostCalls, 3_000),
        (OutputBytes, 20_000),
        (LogBytes, 20_000),
        (LogLines, 100),
        (RandomBytes, 100_000),
        (ScratchBytes, 100_000),
        (ScratchFiles, 20),
        (Events, 50),
        (EventBytes, 10_000),
        (TraceCalls, 60),
        (TraceBytes, 50_000),
        (LlmRequests, 30),
        (LlmRequestsOpen, 8),
        (LlmRequestBytes, 100_000),
        (LlmTokens, 20_000),
        (LlmCostMicrousd, 1_000),
    ]
    .into_iter()
    .fold(Budget::default(), |budget, (name, limit)| budget.with(name, limit))
}

/// What holds for every execution.
fn check_execution(execution: &Execution, budget: &Budget) {
    let record = &execution.record;
    assert_ne!(record.outcome, Outcome::HostError, "{:?} {:?}", record.error, execution.cause);
    assert_eq!(record.error.is_none(), record.outcome == Outcome::Completed, "{record:?}");
    if let Outcome::BudgetExceeded(exhausted) = record.outcome {
        assert_eq!(exhausted.limit, budget.limit(exhausted.budget), "{exhausted:?}");
    }
    if let (Outcome::Trapped, Some(error)) = (record.outcome, &record.error) {
        assert_eq!(sanitize_text(error), error.as_str());
        assert!(error.len() < 10_000, "{error}");
    }
    // A deadline is noticed when it is over. Tokens and costs are known when they are spent.
    let noticed_late = [BudgetName::WallMs, BudgetName::LlmTokens, BudgetName::LlmCostMicrousd];
    for name in BudgetName::ALL.iter().filter(|name| !noticed_late.contains(name)) {
        let key = if *name == BudgetName::MemoryBytes { "memory_bytes_peak" } else { name.as_str() };
        let used = record.usage.get(key).expect("every budget is in the usage");
        assert!(used <= budget.limit(*name), "{name}: used {used}, limit {} ({record:?})", budget.limit(*name));
    }
    let text = serde_json::to_string(record).expect("a record is JSON");
    let read: serde_json::Value = serde_json::from_str(&text).expect("it parses");
    let outcome: Outcome = serde_json::from_value(read["outcome"].clone()).expect("an outcome");
    assert_eq!(outcome, record.outcome);
    assert_eq!(read["output"].as_str(), record.output.as_deref());
    assert_eq!(read["error"].as_str(), record.error.as_deref());
    assert_eq!(read["workload"]["digest"].as_str(), Some(record.workload.digest.to_string().as_str()));
}

/// The grants of these names.
pub fn grants(names: &[&str]) -> Arc<holm_host_api::Grants> {
    Arc::new(names.iter().map(|name| name.parse::<holm_host_api::Grant>().expect("a grant")).collect())
}
