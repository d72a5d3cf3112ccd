//! The host functions of `trace`, called directly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, pending, ready};
use serde_json::json;
use wasmtime::component::Resource;

use super::bindings::trace::{Host as _, HostCall as _};
use super::*;
use crate::BudgetName::{Handles, TraceBytes, TraceCalls};
use crate::bindings::types::Denied as GuestDenied;
use crate::fixture::{Fixture, Host, WALL, exhausted, lend, scope};
use crate::{Budget, CapabilitySet, Denied, Meter, Scope, View};

type Started = Result<Resource<TraceCall>, GuestDenied>;

fn view(host: &mut Host) -> View<'_, TraceContext> {
    host.view()
}

fn start(host: &mut Host, operation: &str, inputs: &str) -> Started {
    view(host).start(operation.to_owned(), inputs.to_owned()).unwrap()
}

fn child(host: &mut Host, of: &Resource<TraceCall>, operation: &str) -> Started {
    view(host).child(lend(of), operation.to_owned(), String::new()).unwrap()
}

fn finish(host: &mut Host, call: &Resource<TraceCall>, output: Result<&str, &str>) -> Result<(), GuestDenied> {
    view(host).finish(lend(call), output.map(str::to_owned).map_err(str::to_owned)).unwrap()
}

fn attribute(host: &mut Host, call: &Resource<TraceCall>, key: &str, value: &str) -> Result<(), GuestDenied> {
    view(host).set_attribute(lend(call), key.to_owned(), value.to_owned()).unwrap()
}

async fn publish(host: &mut Host, name: &str, value: &str) -> Result<String, GuestDenied> {
    view(host).publish(name.to_owned(), value.to_owned()).await.unwrap()
}

async fn resolve(host: &mut Host, reference: &str) -> Result<String, GuestDenied> {
    view(host).resolve(reference.to_owned()).await.unwrap()
}

async fn feedback(host: &mut Host, reference: &str, kind: &str, payload: &str) -> Result<(), GuestDenied> {
    view(host).feedback(reference.to_owned(), kind.to_owned(), payload.to_owned()).await.unwrap()
}

/// Another capability makes a call to the host.
fn host_call(host: &Host, operation: &str, ends: bool) {
    let mut call = host.state.gate().enter("llm", "complete").unwrap();
    call.observe(operation, || json!({ "operation": operation }));
    if ends {
        call.end_with(&Ok::<_, Denied>(json!("answer")), Clone::clone);
    }
}

#[tokio::test]
async fn calls_nest_and_keep_what_they_are_told() {
    let mut host = Fixture::new().open().await;
    let outer = start(&mut host, "outer", "{\"b\": 1, \"a\": 2}").unwrap();
    let inner = start(&mut host, "inner", "no JSON").unwrap();
    attribute(&mut host, &inner, "score", "0.5").unwrap();
    finish(&mut host, &inner, Ok("[1, 2]")).unwrap();
    let sibling = child(&mut host, &outer, "sibling").unwrap();
    finish(&mut host, &sibling, Err("it broke")).unwrap();
    finish(&mut host, &outer, Ok("")).unwrap();
    assert_eq!(host.shape(), "execution open(outer ok(inner ok(), sibling error()))");
    let outer = &host.tree().children[0];
    assert_eq!((outer.kind, outer.inputs.as_str()), (CallKind::Guest, "{\"a\":2,\"b\":1}"));
    let inner = &outer.children[0];
    assert_eq!((inner.inputs.as_str(), inner.attributes["score"].as_str()), ("\"no JSON\"", "0.5"));
    assert_eq!(inner.output.as_ref().unwrap().as_str(), "[1,2]");
    assert_eq!(outer.children[1].error.as_deref(), Some("it broke"));
}

#[tokio::test]
async fn calls_to_the_host_are_children_of_the_current_call() {
    let mut host = Fixture::new().open().await;
    host_call(&host, "before", true);
    let outer = start(&mut host, "outer", "").unwrap();
    host_call(&host, "within", true);
    let inner = start(&mut host, "inner", "").unwrap();
    host_call(&host, "given up", false);
    finish(&mut host, &inner, Ok("")).unwrap();
    host_call(&host, "after inner", true);
    finish(&mut host, &outer, Ok("")).unwrap();
    host_call(&host, "last", true);
    let outer = "outer ok(within ok(), inner ok(given up error()), after inner ok())";
    assert_eq!(host.shape(), format!("execution open(before ok(), {outer}, last ok())"));
    let within = &host.tree().children[1].children[0];
    assert_eq!((within.kind, within.inputs.as_str()), (CallKind::Host, "{\"operation\":\"within\"}"));
    assert_eq!(within.output.as_ref().unwrap().as_str(), "\"answer\"");
}

#[tokio::test]
async fn the_hosts_calls_are_traced_where_the_guest_has_no_grant() {
    let mut host = Fixture::new().grants(&["llm"]).open().await;
    let Err(GuestDenied::NotGranted(what)) = start(&mut host, "a", "") else { panic!() };
    assert_eq!(what, "trace.start");
    host_call(&host, "llm.complete", true);
    host.finish(Outcome::Completed).await;
    assert_eq!(host.shape(), "execution ok(llm.complete ok())");
}

#[tokio::test]
async fn every_function_needs_its_grant() {
    let mut host = Fixture::new().grants(&["trace.start"]).open().await;
    let call = start(&mut host, "a", "").unwrap();
    let denied = [
        child(&mut host, &call, "b").unwrap_err(),
        attribute(&mut host, &call, "k", "v").unwrap_err(),
        finish(&mut host, &call, Ok("")).unwrap_err(),
        publish(&mut host, "x", "1").await.unwrap_err(),
        resolve(&mut host, "x").await.unwrap_err(),
        feedback(&mut host, "x", "k", "1").await.unwrap_err(),
    ];
    for (denied, function) in denied.iter().zip(["child", "set-attribute", "finish", "publish", "resolve", "feedback"])
    {
        assert!(matches!(denied, GuestDenied::NotGranted(what) if *what == format!("trace.{function}")), "{denied:?}");
    }
    assert!(view(&mut host).reference(lend(&call)).unwrap().contains("/call/"));
    assert_eq!(host.shape(), "execution open(a open())");
    assert_eq!(host.journal()[1], "trace.child: not granted: trace.child");
    assert_eq!(host.journal()[7], "trace.reference", "it needs no grant, and passes the gate all the same");
}

#[tokio::test]
async fn a_call_ends_once_and_a_dropped_one_is_abandoned() {
    let mut host = Fixture::new().open().await;
    let (a, b) = (start(&mut host, "a", "").unwrap(), start(&mut host, "b", "").unwrap());
    finish(&mut host, &a, Ok("")).unwrap();
    for denied in [
        finish(&mut host, &a, Ok("")).unwrap_err(),
        attribute(&mut host, &a, "k", "v").unwrap_err(),
        child(&mut host, &a, "c").unwrap_err(),
    ] {
        assert!(matches!(&denied, GuestDenied::Invalid(why) if why == "the call has ended"), "{denied:?}");
    }
    let reference = view(&mut host).reference(lend(&a)).unwrap();
    feedback(&mut host, &reference, "score", "1").await.unwrap();
    for call in [a, b] {
        view(&mut host).drop(call).unwrap();
    }
    assert_eq!(host.shape(), "execution open(a ok(b abandoned()))");
    assert_eq!(host.tree().children[0].feedback[0].payload.as_str(), "1");
    assert_eq!(host.journal()[3], "trace.finish: invalid: the call has ended");
}

#[tokio::test]
async fn a_handle_that_is_not_there_traps() {
    let mut host = Fixture::new().open().await;
    let call = start(&mut host, "a", "").unwrap();
    let gone = Resource::<TraceCall>::new_own(call.rep());
    view(&mut host).drop(call).unwrap();
    let mut view = view(&mut host);
    assert!(view.finish(lend(&gone), Ok(String::new())).is_err());
    assert!(view.child(lend(&gone), "b".to_owned(), String::new()).is_err());
    assert!(view.set_attribute(lend(&gone), "k".to_owned(), String::new()).is_err());
    assert!(view.reference(lend(&gone)).is_err());
    assert!(view.drop(gone).is_err());
    let other = view.table().push("another capability's").unwrap();
    assert!(view.reference(Resource::new_borrow(other.rep())).is_err());
    assert_eq!(host.shape(), "execution open(a abandoned())");
}

#[tokio::test]
async fn a_full_table_of_handles_is_a_denial() {
    let mut host = Fixture::new().limit(Handles, 2).open().await;
    let (a, b) = (start(&mut host, "a", "").unwrap(), start(&mut host, "b", "").unwrap());
    let Err(GuestDenied::Exhausted(denied)) = start(&mut host, "c", "") else { panic!() };
    assert_eq!((denied.budget.as_str(), denied.limit, denied.used), ("handles", 2, 2));
    assert_eq!(exhausted(&child(&mut host, &a, "d").unwrap_err()), "handles");
    assert_eq!(host.meter().refused().map(|refused| refused.budget), Some(Handles));
    view(&mut host).drop(b).unwrap();
    let c = start(&mut host, "c", "").unwrap();
    finish(&mut host, &c, Ok("")).unwrap();
    assert!(host.shape().ends_with("c ok()))"), "{}", host.shape());
    let journal = host.journal();
    assert_eq!(journal[2], "trace.start: budget exceeded: handles, limit 2, used 2");
    assert_eq!(journal[3], "trace.child: budget exceeded: handles, limit 2, used 2");
}

#[tokio::test]
async fn the_record_has_the_most_handles_that_were_held() {
    let mut host = Fixture::new().open().await;
    for _ in 0..3 {
        let calls = ["a", "b", "c", "d"].map(|name| start(&mut host, name, "").unwrap());
        for call in calls {
            view(&mut host).drop(call).unwrap();
        }
    }
    let _last = start(&mut host, "last", "").unwrap();
    host.finish(Outcome::Completed).await;
    assert_eq!(host.meter().reading(Handles), 4);
}

#[tokio::test]
async fn budgets_that_run_out_are_denials() {
    let mut host = Fixture::new().limit(TraceCalls, 2).limit(TraceBytes, 300).open().await;
    let call = start(&mut host, "a", "").unwrap();
    let long = "x".repeat(300);
    assert_eq!(exhausted(&start(&mut host, "b", &long).unwrap_err()), "trace_bytes");
    assert_eq!(exhausted(&attribute(&mut host, &call, "k", &long).unwrap_err()), "trace_bytes");
    assert_eq!(exhausted(&publish(&mut host, "x", &long).await.unwrap_err()), "trace_bytes");
    let reference = publish(&mut host, "x", "1").await.unwrap();
    assert_eq!(exhausted(&feedback(&mut host, &reference, "k", &long).await.unwrap_err()), "trace_bytes");
    let second = child(&mut host, &call, "b").unwrap();
    assert_eq!(exhausted(&start(&mut host, "c", "").unwrap_err()), "trace_calls");
    assert_eq!(exhausted(&child(&mut host, &call, "c").unwrap_err()), "trace_calls");
    assert_eq!(exhausted(&finish(&mut host, &second, Ok(&long)).unwrap_err()), "trace_bytes");
    assert_eq!(host.shape(), "execution open(a open(b ok()))", "a call ends, with its output or without");
    let denied = host.journal().iter().filter(|line| line.contains("budget exceeded")).count();
    assert_eq!(denied, 7, "{:?}", host.journal());
}

#[tokio::test]
async fn the_hosts_own_calls_are_left_out_where_the_budget_is_gone() {
    let mut host = Fixture::new().limit(TraceCalls, 1).open().await;
    host_call(&host, "kept", true);
    host_call(&host, "left out", true);
    assert_eq!(host.meter().refused(), None, "nothing that the guest did was refused");
    host.finish(Outcome::Completed).await;
    assert_eq!(host.shape(), "execution ok(kept ok())");
    assert_eq!(host.tree().attributes["dropped_calls"].as_str(), "1");
}

#[tokio::test]
async fn objects_have_references_that_resolve() {
    let mut host = Fixture::new().open().await;
    let reference = publish(&mut host, "data", "{\"b\":1, \"a\":[]}").await.unwrap();
    assert!(reference.starts_with("holm:///alice/default/object/data:"), "{reference}");
    assert_eq!(publish(&mut host, "data", "{\"a\":[],\"b\":1}").await.unwrap(), reference);
    assert_eq!(resolve(&mut host, &reference).await.unwrap(), "{\"a\":[],\"b\":1}");
    feedback(&mut host, &reference, "note", "good").await.unwrap();
    assert_eq!(host.journal(), ["trace.publish", "trace.publish", "trace.resolve", "trace.feedback"]);
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_invalid() {
    let mut host = Fixture::new().open().await;
    let call = start(&mut host, "a", "").unwrap();
    let long = "x".repeat(257);
    let reference = view(&mut host).reference(lend(&call)).unwrap();
    let own = publish(&mut host, "x", "1").await.unwrap();
    for denied in [
        start(&mut host, "", "").unwrap_err(),
        child(&mut host, &call, &long).unwrap_err(),
        attribute(&mut host, &call, "", "1").unwrap_err(),
        publish(&mut host, "../x", "1").await.unwrap_err(),
        resolve(&mut host, "no reference").await.unwrap_err(),
        resolve(&mut host, &reference).await.unwrap_err(),
        resolve(&mut host, &own.replace("alice", "bob")).await.unwrap_err(),
        feedback(&mut host, &own.replace("object/x", "object/y"), "k", "1").await.unwrap_err(),
        feedback(&mut host, &reference, "", "1").await.unwrap_err(),
    ] {
        assert!(matches!(&denied, GuestDenied::Invalid(why) if !why.is_empty()), "{denied:?}");
    }
    assert_eq!(host.shape(), "execution open(a open())");
}

#[tokio::test]
async fn the_end_of_the_execution_ends_its_calls() {
    let mut host = Fixture::new().open().await;
    let _left_open = start(&mut host, "a", "").unwrap();
    let mut opened = host.state.close();
    let ending = Ending { outcome: Outcome::Completed, output: b"{\"b\":1,\"a\":2}".to_vec(), error: None };
    assert_eq!(crate::finish(&mut opened, &ending, WALL).await.failures, Vec::<String>::new());
    assert_eq!(host.shape(), "execution ok(a abandoned())");
    assert_eq!(host.tree().output.unwrap().as_str(), "{\"a\":2,\"b\":1}");

    let mut failed = Fixture::new().open().await;
    let ending = Ending { outcome: Outcome::GuestError, output: b"half".to_vec(), error: Some("no".to_owned()) };
    crate::finish(&mut failed.state.close(), &ending, WALL).await;
    assert_eq!((failed.tree().output, failed.tree().error.as_deref()), (None, Some("no")));
}

/// Keeps calls well enough, but is asked for objects in vain.
#[derive(Clone, Copy)]
struct Objectless {
    answers: bool,
}

impl Objectless {
    fn answer<T: Send + 'static>(self) -> BoxFuture<'static, Result<T, TraceError>> {
        if self.answers {
            ready(Err(TraceError::Unavailable("the store is down".to_owned()))).boxed()
        } else {
            pending().boxed()
        }
    }
}

impl TraceBackend for Objectless {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn TraceSink>, TraceError> {
        Ok(Arc::new(*self))
    }
}

impl TraceSink for Objectless {
    fn start(&self, _: CallStart) {}
    fn attribute(&self, _: CallId, _: String, _: Json) {}
    fn end(&self, _: CallEnd) {}
    fn publish(&self, _: Reference, _: Json) -> BoxFuture<'static, Result<(), TraceError>> {
        self.answer()
    }
    fn resolve(&self, _: Reference) -> BoxFuture<'static, Result<Json, TraceError>> {
        self.answer()
    }
    fn feedback(&self, _: Reference, _: Feedback) -> BoxFuture<'static, Result<(), TraceError>> {
        self.answer()
    }
    fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>> {
        self.answer()
    }
}

/// What a guest gets of a backend, and what the end of its execution says.
async fn ask_in_vain(answers: bool, scope: Scope) -> (Vec<GuestDenied>, Vec<String>) {
    let mut set = CapabilitySet::default();
    set.add(Trace::new(Arc::new(Objectless { answers }))).unwrap();
    let mut gate = Gate::new(Arc::new(scope), Arc::new(Meter::new(Budget::default())));
    let opened = set.open(&mut gate, WALL).await.unwrap();
    let gate = Arc::new(gate);
    let wasi = crate::wasi::context(&gate, &Default::default(), crate::wasi::Stdio::Workload).unwrap();
    let mut state = State::new(gate, opened, wasi);
    let mut view = state.view::<TraceContext>();
    let reference = format!("holm:///alice/default/object/x:{}", "0".repeat(64));
    let denied = vec![
        view.publish("x".to_owned(), "1".to_owned()).await.unwrap().unwrap_err(),
        view.resolve(reference.clone()).await.unwrap().unwrap_err(),
        view.feedback(reference, "k".to_owned(), "1".to_owned()).await.unwrap().unwrap_err(),
    ];
    let report = crate::finish(&mut state.close(), &Ending::of(Outcome::Completed), WALL).await;
    (denied, report.failures)
}

#[tokio::test]
async fn a_backend_that_is_down_is_a_denial() {
    let (denied, failures) = ask_in_vain(true, scope()).await;
    assert!(denied.iter().all(|denied| matches!(denied, GuestDenied::Unavailable(why) if why == "the store is down")));
    assert_eq!(failures, ["trace: the store is down"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_given_up_at_the_deadline_or_with_the_cancellation() {
    let begun = tokio::time::Instant::now();
    let (denied, failures) = ask_in_vain(false, scope()).await;
    assert!(denied.iter().all(|denied| matches!(denied, GuestDenied::TimedOut)), "{denied:?}");
    assert_eq!(failures, ["trace: the backend did not answer in 60000 ms"]);
    assert!(begun.elapsed() < WALL * 2 + Duration::from_secs(1));

    let cancelled = scope();
    cancelled.cancellation.cancel();
    let (denied, _) = ask_in_vain(false, cancelled).await;
    assert!(denied.iter().all(|denied| matches!(denied, GuestDenied::Cancelled)), "{denied:?}");
}
