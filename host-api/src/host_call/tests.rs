//! The gate, without any room behind it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]

use std::future::{pending, ready};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::fixture::{WALL, scope};
use crate::{Budget, Grants};

/// Remembers what it was shown.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl CallObserver for Seen {
    /// An operation named `hidden` is not kept.
    fn started(&self, operation: &str, inputs: Value) -> Option<ObservedCall> {
        (operation != "hidden").then(|| {
            self.add(format!("+{operation} {inputs}"));
            ObservedCall(Uuid::nil())
        })
    }

    fn ended(&self, _: ObservedCall, result: Result<Value, String>) {
        self.add(format!("-{result:?}"));
    }
}

impl LogSink for Seen {
    fn log(&self, _: Uuid, level: Level, message: &str) {
        self.add(format!("{level:?} {message}"));
    }
}

fn gate_with(budget: Budget, change: impl FnOnce(&mut Scope)) -> (Arc<Gate>, Arc<Seen>) {
    let (mut scope, seen) = (scope(), Arc::new(Seen::default()));
    change(&mut scope);
    let mut gate = Gate::new(Arc::new(scope), Arc::new(Meter::new(budget))).with_journal(Journal::new(100));
    gate.observe(Arc::clone(&seen) as _);
    gate.log_to(Arc::clone(&seen) as _);
    (Arc::new(gate), seen)
}

fn gate() -> (Arc<Gate>, Arc<Seen>) {
    gate_with(Budget::default(), |_| {})
}

fn journal(gate: &Gate) -> Vec<String> {
    let (entries, _) = gate.journal().unwrap().entries();
    assert!((0..).zip(&entries).all(|(at, entry)| entry.sequence == at));
    entries.iter().map(|entry| format!("{}.{} {:?}", entry.capability, entry.function, entry.result)).collect()
}

async fn race<T>(gate: &Gate, work: impl Future<Output = Result<T, Denied>>) -> Result<T, Denied> {
    gate.race(work).await
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_work_the_cancellation_or_the_deadline() {
    let (gate, _) = gate();
    let begun = tokio::time::Instant::now();
    assert_eq!(race(&gate, ready(Ok(5))).await, Ok(5));
    assert_eq!(
        race::<()>(&gate, ready(Err(Denied::Invalid("x".to_owned())))).await,
        Err(Denied::Invalid("x".to_owned()))
    );
    let slow = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(6)
    };
    assert_eq!(race(&gate, slow).await, Ok(6));
    assert_eq!(race::<()>(&gate, pending()).await, Err(Denied::TimedOut));
    assert!((begun.elapsed().as_secs_f64() - WALL.as_secs_f64()).abs() < 1.0);

    gate.scope().cancellation.cancel();
    assert_eq!(race::<()>(&gate, pending()).await, Err(Denied::Cancelled), "it says more than the deadline does");
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_ends_the_waiting_when_it_comes() {
    let (gate, _) = gate();
    let cancellation = gate.scope().cancellation.clone();
    let begun = tokio::time::Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancellation.cancel();
    };
    let (result, ()) = tokio::join!(race::<()>(&gate, pending()), cancel);
    assert_eq!((result, begun.elapsed().as_secs()), (Err(Denied::Cancelled), 2));
}

#[tokio::test]
async fn work_that_is_done_counts_also_after_the_end() {
    let (gate, _) = gate_with(Budget::default(), |scope| scope.deadline = scope.started);
    gate.scope().cancellation.cancel();
    assert_eq!(race(&gate, ready(Ok("done"))).await, Ok("done"));
}

#[tokio::test]
async fn an_observer_sees_the_beginning_and_the_end() {
    let (gate, seen) = gate();
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || json!("in"));
    call.end_with(&Ok::<_, Denied>(5), |five| json!(five));
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || json!("in"));
    call.end_with(&Err::<(), _>(Denied::Unavailable("down".to_owned())), |()| json!(null));
    let lines = seen.lines();
    assert_eq!(lines[..2], ["+llm.complete \"in\"", "-Ok(Number(5))"]);
    assert_eq!(lines[3], "-Err(\"unavailable: down\")");
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_for_all_who_look() {
    let (gate, seen) = gate();
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || json!(1));
    drop(call);
    assert_eq!(seen.lines()[1], "-Err(\"cancelled\")");
    assert_eq!(journal(&gate), ["llm.complete Err(\"cancelled\")"]);
}

#[tokio::test]
async fn a_panic_of_the_host_is_shown_as_one_without_its_words() {
    let (gate, seen) = gate();
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || json!(1));
    let panicking = std::panic::AssertUnwindSafe(move || {
        let _call = call;
        std::panic::resume_unwind(Box::new("a secret"));
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(seen.lines()[1], "-Err(\"the host failed\")");
    assert_eq!(journal(&gate), ["llm.complete Err(\"the host failed\")"]);
}

#[tokio::test]
async fn nothing_enters_once_the_execution_is_about_to_end() {
    let (gate, _) = gate_with(Budget::default().with(BudgetName::HostCalls, 1), |_| {});
    gate.enter("llm", "complete").unwrap().answer((), |()| json!(null));
    let exhausted = gate.meter().charge(BudgetName::HostCalls, 2).unwrap_err();
    gate.meter().trip(exhausted);
    assert_eq!(gate.enter("llm", "complete").err(), Some(Denied::Exhausted(exhausted)));
    assert_eq!(gate.enter_granted("llm", "next").err(), Some(exhausted));
    assert_eq!(
        journal(&gate)[1..],
        ["complete", "next"].map(|name| format!("llm.{name} Err({:?})", exhausted.to_string()))
    );
}

#[tokio::test]
async fn a_call_that_goes_on_is_in_the_journal_as_the_guest_saw_it() {
    let (gate, seen) = gate();
    let mut call = gate.enter("llm", "submit").unwrap();
    call.observe("llm.complete", || json!("in"));
    call.goes_on();
    gate.enter_granted("llm", "get").unwrap().answer(5, |five| json!(five));
    call.end_with(&Ok::<_, Denied>(5), |five| json!(five));
    assert_eq!(seen.lines(), ["+llm.complete \"in\"", "-Ok(Number(5))"]);
    assert_eq!(journal(&gate), ["llm.submit Ok(Null)", "llm.get Ok(Number(5))"]);
}

#[tokio::test]
async fn what_the_observer_does_not_keep_still_ends_well() {
    let (gate, seen) = gate();
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("hidden", || json!(1));
    call.end_with(&Ok::<_, Denied>(()), |()| json!(2));
    drop(gate.enter("llm", "complete").unwrap());
    assert_eq!(seen.lines(), Vec::<String>::new());
    assert_eq!(journal(&gate).len(), 2);
}

#[tokio::test]
async fn the_journal_has_every_call_once_in_the_order_of_ends() {
    let grants: Grants = ["llm.complete", "llm.submit"].into_iter().map(|grant| grant.parse().unwrap()).collect();
    let budget = Budget::default().with(BudgetName::Events, 1);
    let (gate, _) = gate_with(budget, |scope| scope.grants = Arc::new(grants));
    let first = gate.enter("llm", "complete").unwrap();
    let second = gate.enter("llm", "submit").unwrap();
    assert_eq!(gate.enter("llm", "embed").err(), Some(Denied::NotGranted("llm.embed".to_owned())));
    second.end_with(&Ok::<_, Denied>("b"), |b| json!(b));
    let charged = first.charge(BudgetName::Events, 2);
    first.end_with(&charged, |()| json!(null));
    let expected = [
        "llm.embed Err(\"not granted: llm.embed\")",
        "llm.submit Ok(String(\"b\"))",
        "llm.complete Err(\"budget exceeded: events, limit 1, used 0\")",
    ];
    assert_eq!(journal(&gate), expected);
}

#[tokio::test]
async fn a_full_journal_counts_what_it_leaves_out() {
    let gate = Gate::new(Arc::new(scope()), Arc::new(Meter::new(Budget::default()))).with_journal(Journal::new(2));
    let gate = Arc::new(gate);
    for _ in 0..5 {
        gate.enter("events", "emit").unwrap().end_with(&Ok::<_, Denied>(()), |()| json!(null));
    }
    let (entries, more) = gate.journal().unwrap().entries();
    assert_eq!((entries.len(), more), (2, 3));
}

#[tokio::test]
async fn nothing_is_shown_where_nobody_looks() {
    let gate = Arc::new(Gate::new(Arc::new(scope()), Arc::new(Meter::new(Budget::default()))));
    let mut call = gate.enter("llm", "complete").unwrap();
    call.observe("llm.complete", || unreachable!("nobody looks"));
    call.end_with(&Ok::<_, Denied>(()), |()| unreachable!("nobody looks"));
    assert!(gate.journal().is_none());
    gate.log(Level::Info, "nowhere").unwrap();
}

#[tokio::test]
async fn the_hosts_work_is_billed() {
    let (gate, _) = gate();
    let call = gate.enter("trace", "publish").unwrap();
    call.moves(100).parses(10);
    assert_eq!((gate.meter().take_fuel_owed(), gate.meter().fuel_owed()), (180, 0));
}

#[tokio::test]
async fn the_log_takes_whole_lines_or_none() {
    let (gate, seen) = gate_with(Budget::default().with(BudgetName::LogBytes, 8), |_| {});
    gate.log(Level::Warn, "1234").unwrap();
    let refused = gate.log(Level::Info, "123").unwrap_err();
    assert_eq!((refused.budget, refused.limit, refused.used), (BudgetName::LogBytes, 8, 5));
    gate.log(Level::Error, "12").unwrap();
    assert_eq!(seen.lines(), ["Warn 1234", "Error 12"]);
}
