//! The trace of one execution, seen through the memory backend.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]

use serde_json::json;

use super::*;
use crate::trace::memory::tests::scope;
use crate::trace::{CallTree, MemoryTrace};
use crate::{Budget, BudgetName, Exhausted, Gate};

struct Bench {
    trace: MemoryTrace,
    scope: Arc<Scope>,
    meter: Arc<Meter>,
    calls: Arc<Calls>,
}

impl Bench {
    fn new() -> Self {
        Bench::with(&Budget::default())
    }

    fn with(budget: &Budget) -> Self {
        let (trace, scope, meter) = (MemoryTrace::default(), scope("alice"), Arc::new(Meter::new(budget.clone())));
        let calls = Calls::open(&trace, &scope, &meter, 12).unwrap();
        Bench { trace, scope, meter, calls }
    }

    fn tree(&self) -> CallTree {
        self.trace.tree(self.scope.execution).unwrap()
    }

    /// Operations and statuses, nested.
    fn shape(&self) -> String {
        fn shape(call: &CallTree) -> String {
            let children: Vec<_> = call.children.iter().map(shape).collect();
            format!("{} {}({})", call.operation, call.status.as_str(), children.join(", "))
        }
        shape(&self.tree())
    }
}

#[test]
fn the_root_call_is_the_execution() {
    let bench = Bench::new();
    let open = bench.tree();
    assert_eq!((open.id.0, open.kind, open.status), (bench.scope.execution, CallKind::Execution, CallStatus::Open));
    assert_eq!(open.inputs.to_value(), json!({ "input_bytes": 12, "workload": "sha256:00" }));
    bench.calls.finish(&Outcome::Completed, Some(Json::from_text("[1]")), None);
    let tree = bench.tree();
    assert_eq!((tree.status, tree.output.unwrap().as_str()), (CallStatus::Ok, "[1]"));
    assert!(tree.duration.is_some() && tree.attributes.is_empty());
}

#[test]
fn a_call_is_under_the_innermost_that_is_open() {
    let bench = Bench::new();
    let a = bench.calls.start("a", "{}").unwrap();
    let b = bench.calls.start("b", "{}").unwrap();
    bench.calls.finish_call(a, Ok("1")).unwrap();
    let c = bench.calls.start("c", "{}").unwrap();
    bench.calls.finish_call(c, Ok("1")).unwrap();
    bench.calls.finish_call(b, Err("no")).unwrap();
    let d = bench.calls.start("d", "text").unwrap();
    bench.calls.finish_call(d, Ok("more text")).unwrap();
    assert_eq!(bench.shape(), "execution open(a ok(b error(c ok())), d ok())");
    let d = &bench.tree().children[1];
    assert_eq!((d.inputs.as_str(), d.output.as_ref().unwrap().as_str()), ("\"text\"", "\"more text\""));
    assert_eq!(bench.tree().children[0].children[0].error.as_deref(), Some("no"));
}

#[test]
fn a_child_is_under_its_parent_whatever_is_current() {
    let bench = Bench::new();
    let a = bench.calls.start("a", "").unwrap();
    let _b = bench.calls.start("b", "").unwrap();
    bench.calls.child(a, "c", "").unwrap();
    bench.calls.start("d", "").unwrap();
    assert_eq!(bench.shape(), "execution open(a open(b open(), c open(d open())))");
}

#[test]
fn host_calls_that_are_under_way_at_once_are_siblings() {
    let bench = Bench::new();
    let calls: Arc<dyn CallObserver> = bench.calls.clone();
    let early = calls.started("llm.complete", json!({})).unwrap();
    let a = bench.calls.start("a", "").unwrap();
    let requests: Vec<_> = (0..3).map(|n| calls.started("llm.submit", json!({ "n": n })).unwrap()).collect();
    calls.ended(requests[1], Ok(json!({ "usage": { "input_tokens": 3, "output_tokens": 4 } })));
    calls.ended(requests[0], Err("refused".into()));
    bench.calls.finish_call(a, Ok("")).unwrap();
    calls.ended(requests[2], Ok(json!(null)));
    calls.ended(early, Ok(json!(null)));
    assert_eq!(
        bench.shape(),
        "execution open(llm.complete ok(), a ok(llm.submit error(), llm.submit ok(), llm.submit ok()))"
    );
    let tree = bench.tree();
    let failed = &tree.children[1].children[0];
    assert_eq!((failed.kind, failed.error.as_deref()), (CallKind::Host, Some("refused")));
    assert_eq!(tree.children[1].children[1].tokens().unwrap().output, 4);
}

#[tokio::test]
async fn the_gate_shows_its_calls() {
    let bench = Bench::new();
    let mut gate = Gate::new(Arc::clone(&bench.scope), Arc::clone(&bench.meter));
    gate.observe(bench.calls.clone());
    let gate = Arc::new(gate);
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || json!("hello"));
    call.end_with(&Ok::<_, Denied>(5), |answer| json!(answer));
    let mut given_up = gate.enter("llm", "submit").unwrap();
    given_up.observe("llm.complete", || json!(null));
    drop(given_up);
    assert_eq!(bench.shape(), "execution open(llm.complete ok(), llm.complete error())");
    assert_eq!(bench.tree().children[1].error.as_deref(), Some("cancelled"));
}

#[test]
fn a_call_ends_once() {
    let bench = Bench::new();
    let call = bench.calls.start("a", "").unwrap();
    bench.calls.set_attribute(call, "k", "[1]").unwrap();
    bench.calls.set_attribute(call, "k", "two").unwrap();
    bench.calls.finish_call(call, Ok("1")).unwrap();
    let ended = Denied::Invalid("the call has ended".to_owned());
    assert_eq!(bench.calls.finish_call(call, Ok("2")), Err(ended.clone()));
    assert_eq!(bench.calls.set_attribute(call, "k", "3"), Err(ended.clone()));
    assert_eq!(bench.calls.child(call, "b", ""), Err(ended));
    bench.calls.abandon(call);
    let call = &bench.tree().children[0];
    assert_eq!((call.status, call.output.as_ref().unwrap().as_str()), (CallStatus::Ok, "1"));
    assert_eq!(call.attributes["k"].as_str(), "\"two\"");
}

#[test]
fn open_calls_end_with_the_execution_and_its_reason() {
    let exhausted = Exhausted { budget: BudgetName::Fuel, limit: 10, used: 10 };
    for (outcome, root, left_open) in [
        (Outcome::Completed, CallStatus::Ok, CallStatus::Abandoned),
        (Outcome::GuestError, CallStatus::Error, CallStatus::Abandoned),
        (Outcome::Trapped, CallStatus::Trapped, CallStatus::Trapped),
        (Outcome::BudgetExceeded(exhausted), CallStatus::BudgetExceeded, CallStatus::BudgetExceeded),
        (Outcome::Cancelled, CallStatus::Cancelled, CallStatus::Cancelled),
        (Outcome::HostError, CallStatus::HostError, CallStatus::HostError),
    ] {
        let bench = Bench::new();
        let dropped = bench.calls.start("dropped", "").unwrap();
        bench.calls.abandon(dropped);
        bench.calls.start("a", "").unwrap();
        bench.calls.start("b", "").unwrap();
        let host = bench.calls.host_call_started("llm.submit", json!(null)).unwrap();
        bench.calls.finish(&outcome, None, None);
        let (root, left) = (root.as_str(), left_open.as_str());
        let shape = format!("execution {root}(dropped abandoned(), a {left}(b {left}(llm.submit {left}())))");
        assert_eq!(bench.shape(), shape);

        // What comes late changes nothing.
        bench.calls.host_call_ended(host, Ok(json!(1)), Vec::new());
        assert_eq!(bench.calls.start("c", ""), Err(execution_ended()));
        assert_eq!(bench.calls.host_call_started("llm.submit", json!(null)), None);
        bench.calls.finish(&Outcome::Completed, None, None);
        assert_eq!(bench.shape(), shape);
        let reason = "budget exceeded: fuel, limit 10, used 10";
        let shown = matches!(outcome, Outcome::BudgetExceeded(_)).then_some(reason);
        assert_eq!(bench.tree().error.as_deref(), shown);
        assert_eq!(bench.tree().children[1].error.as_deref(), shown);
    }
}

#[test]
fn an_end_that_nobody_told_is_the_hosts() {
    let Bench { trace, scope, calls, .. } = Bench::new();
    calls.start("a", "").unwrap();
    drop(calls);
    let tree = trace.tree(scope.execution).unwrap();
    assert_eq!((tree.status, tree.children[0].status), (CallStatus::HostError, CallStatus::HostError));
}

/// What a sink hears, in order.
#[derive(Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl TraceBackend for Heard {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn TraceSink>, TraceError> {
        Ok(Arc::new(Heard(Arc::clone(&self.0))))
    }
}

impl TraceSink for Heard {
    fn start(&self, call: CallStart) {
        self.0.lock().unwrap().push(format!("+{}", call.operation));
    }
    fn attribute(&self, _: CallId, _: String, _: Json) {}
    fn end(&self, call: CallEnd) {
        self.0.lock().unwrap().push(format!("-{}", call.id.0.as_u128() & 0xff));
    }
    fn publish(&self, _: Reference, _: Json) -> BoxFuture<'static, Result<(), TraceError>> {
        Box::pin(async { Err(TraceError::Unavailable("down".to_owned())) })
    }
    fn resolve(&self, _: Reference) -> BoxFuture<'static, Result<Json, TraceError>> {
        Box::pin(async { Err(TraceError::Unavailable("down".to_owned())) })
    }
    fn feedback(&self, _: Reference, _: crate::trace::Feedback) -> BoxFuture<'static, Result<(), TraceError>> {
        Box::pin(async { Err(TraceError::Unavailable("down".to_owned())) })
    }
    fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>> {
        Box::pin(async { Err(TraceError::Unavailable("down".to_owned())) })
    }
}

#[tokio::test]
async fn calls_end_innermost_first_and_a_failing_backend_is_a_denial() {
    let (heard, mut scope) = (Heard::default(), (*scope("alice")).clone());
    scope.execution = uuid::Uuid::from_u128(0x019a_0000_0000_7000_8000_0000_0000_0100);
    let calls = Calls::open(&heard, &Arc::new(scope), &Arc::new(Meter::new(Budget::default())), 0).unwrap();
    calls.start("a", "").unwrap();
    calls.host_call_started("h", json!(1)).unwrap();
    calls.start("b", "").unwrap();
    assert_eq!(calls.publish("x", "1").await, Err(Denied::Unavailable("down".to_owned())));
    calls.finish(&Outcome::Trapped, None, None);
    assert!(calls.flush().await.is_err());
    assert_eq!(*heard.0.lock().unwrap(), ["+execution", "+a", "+h", "+b", "-3", "-2", "-1", "-0"]);
}

#[test]
fn what_the_guest_asks_for_is_denied_when_a_budget_runs_out() {
    let bench = Bench::with(&Budget::default().with(BudgetName::TraceCalls, 2).with(BudgetName::TraceBytes, 100));
    let a = bench.calls.start("a", "1").unwrap();
    let refused = |started: Result<CallId, Denied>| match started {
        Err(Denied::Exhausted(exhausted)) => Some(exhausted.budget),
        _ => None,
    };
    assert_eq!(refused(bench.calls.start("b", &"x".repeat(100))), Some(BudgetName::TraceBytes));
    bench.calls.start("b", "2").unwrap();
    assert_eq!(refused(bench.calls.start("c", "3")), Some(BudgetName::TraceCalls));
    assert!(bench.calls.set_attribute(a, "k", &"x".repeat(50)).is_err());
    assert!(matches!(bench.calls.finish_call(a, Ok(&"x".repeat(100))), Err(Denied::Exhausted(_))));
    assert_eq!(bench.shape(), "execution open(a ok(b open()))");
    assert_eq!(bench.tree().children[0].output, None);
}

#[test]
fn a_host_call_goes_on_when_a_budget_runs_out_and_is_counted() {
    let bench = Bench::with(&Budget::default().with(BudgetName::TraceCalls, 2).with(BudgetName::TraceBytes, 50));
    assert_eq!(bench.calls.host_call_started("llm.complete", json!("x".repeat(50))), None);
    let call = bench.calls.host_call_started("llm.complete", json!("x")).unwrap();
    bench.calls.host_call_ended(call, Ok(json!("x".repeat(50))), vec![("k".to_owned(), Json::from(1))]);
    bench.calls.host_call_started("llm.complete", json!(1)).unwrap();
    assert_eq!(bench.calls.host_call_started("llm.complete", json!(1)), None);
    assert_eq!(bench.meter.refused(), None);
    bench.calls.finish(&Outcome::Completed, Some(Json::string(&"x".repeat(50))), None);
    let tree = bench.tree();
    assert_eq!(tree.attributes["dropped_calls"].as_str(), "2");
    assert_eq!(tree.attributes["dropped_bytes"].as_str(), (52 + 66 + 52).to_string());
    assert_eq!((tree.children.len(), &tree.children[0].output, &tree.output), (2, &None, &None));
}

#[test]
fn labels_are_bounded() {
    let bench = Bench::new();
    for operation in ["", &"x".repeat(257)] {
        assert!(matches!(bench.calls.start(operation, ""), Err(Denied::Invalid(_))));
    }
    let call = bench.calls.start(&"x".repeat(256), "").unwrap();
    assert!(matches!(bench.calls.set_attribute(call, "", ""), Err(Denied::Invalid(_))));
}

#[test]
fn threads_may_share_it() {
    let bench = Bench::with(&Budget::default().with(BudgetName::TraceCalls, 800));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for n in 0..100 {
                    let call = bench.calls.start("a", "1").unwrap();
                    let host = bench.calls.host_call_started("h", json!(n)).unwrap();
                    bench.calls.finish_call(call, Ok("2")).unwrap();
                    bench.calls.host_call_ended(host, Ok(json!(n)), Vec::new());
                }
            });
        }
    });
    bench.calls.finish(&Outcome::Completed, None, None);
    let mut ids = std::collections::BTreeSet::new();
    let mut left = vec![bench.tree()];
    while let Some(call) = left.pop() {
        assert_eq!(call.status, CallStatus::Ok);
        assert!(ids.insert(call.id));
        left.extend(call.children);
    }
    assert_eq!(ids.len(), 801);
}
