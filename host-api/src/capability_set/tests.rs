//! Opening and finishing, with capabilities that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop there")]

use std::future::{pending, ready};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::fixture::{WALL, scope};
use crate::{Budget, Grants, Meter};

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Fails,
    Hangs,
    /// While it is called.
    Panics,
    /// While it is waited for.
    PanicsLater,
}

impl Fault {
    fn work<T: Send + 'static>(self, good: T) -> BoxFuture<'static, Result<T, HostError>> {
        match self {
            Fault::None => ready(Ok(good)).boxed(),
            Fault::Fails => ready(Err(HostError::new("it is down").because("for the operator"))).boxed(),
            Fault::Hangs => pending().boxed(),
            Fault::Panics => panic!("a panic that belongs to this test"),
            Fault::PanicsLater => async { panic!("a panic that belongs to this test") }.boxed(),
        }
    }
}

/// What happened, in order.
type Seen = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Default)]
struct Probe {
    name: &'static str,
    free: bool,
    opens: Fault,
    finishes: Fault,
    drops: Fault,
    counts: Fault,
    seen: Seen,
}

impl Probe {
    fn see(&self, what: &str) {
        self.seen.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Capability for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &[]
    }

    fn needs_grant(&self) -> bool {
        !self.free
    }

    fn link(&self, _: &mut Linker<State>) -> wasmtime::Result<()> {
        self.see("link");
        Ok(())
    }

    fn open<'a>(&'a self, _: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        self.see("open");
        self.opens.work(()).map(|opened| opened.map(|()| Box::new(Opened(self.clone())) as _)).boxed()
    }
}

struct Opened(Probe);

impl CapabilityContext for Opened {
    fn finish<'a>(&'a mut self, ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        self.0.see(ending.outcome.kind());
        self.0.finishes.work(())
    }

    fn usage(&self) -> Option<serde_json::Value> {
        if self.0.counts == Fault::Panics {
            panic!("a panic that belongs to this test");
        }
        Some(json!({ "of": self.0.name }))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.see("drop");
        if self.0.drops == Fault::Panics {
            panic!("a panic that belongs to this test");
        }
    }
}

/// A set of these, and what happens to them.
fn set(probes: &[Probe]) -> (CapabilitySet, Seen) {
    let (mut set, seen) = (CapabilitySet::default(), Seen::default());
    for probe in probes {
        set.add(Probe { seen: Arc::clone(&seen), ..probe.clone() }).unwrap();
    }
    (set, seen)
}

fn probe(name: &'static str) -> Probe {
    Probe { name, ..Probe::default() }
}

async fn open(set: &CapabilitySet, grants: Grants) -> Result<Vec<OpenCapability>, HostError> {
    let scope = crate::Scope { grants: Arc::new(grants), ..scope() };
    set.open(&mut Gate::new(Arc::new(scope), Arc::new(Meter::new(Budget::default()))), WALL).await
}

fn take(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().unwrap())
}

#[test]
fn a_name_is_there_once() {
    let mut set = CapabilitySet::default();
    set.add(probe("a")).unwrap().add(probe("b")).unwrap();
    let error = set.add(probe("a")).err().unwrap();
    assert_eq!(error.to_string(), "a capability named `a` was added already");
    assert_eq!(set.iter().map(|capability| capability.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(set.find("b").is_some() && set.find("c").is_none());
}

#[tokio::test]
async fn they_open_in_order_and_finish_in_reverse() {
    let (set, seen) = set(&[probe("a"), probe("b"), probe("c")]);
    let engine = wasmtime::Engine::default();
    set.link(&mut Linker::new(&engine)).unwrap();
    assert_eq!(take(&seen), ["link a", "link b", "link c"]);
    let mut opened = open(&set, Grants::all()).await.unwrap();
    assert_eq!(take(&seen), ["open a", "open b", "open c"]);
    let report = finish(&mut opened, &Ending::of(Outcome::Trapped), WALL).await;
    assert_eq!(take(&seen), ["trapped c", "drop c", "trapped b", "drop b", "trapped a", "drop a"]);
    assert_eq!(report.failures, Vec::<String>::new());
    let usage = json!({ "a": { "of": "a" }, "b": { "of": "b" }, "c": { "of": "c" } });
    assert_eq!(serde_json::Value::Object(report.usage), usage);
}

#[tokio::test]
async fn what_is_not_granted_is_not_opened() {
    let (set, seen) = set(&[probe("a"), Probe { free: true, ..probe("free") }, probe("b"), probe("c")]);
    let grants = ["b", "c.f"].into_iter().map(|grant| grant.parse().unwrap()).collect();
    let opened = open(&set, grants).await.unwrap();
    assert_eq!(opened.iter().map(|open| open.name).collect::<Vec<_>>(), ["free", "b", "c"]);
    assert_eq!(take(&seen), ["open free", "open b", "open c"]);
    assert_eq!(open(&set, Grants::none()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn they_open_all_or_none() {
    for (fault, said) in [
        (Fault::Fails, "it is down"),
        (Fault::Hangs, "the backend did not answer in 60000 ms"),
        (Fault::Panics, "the backend panicked"),
        (Fault::PanicsLater, "the backend panicked"),
    ] {
        let (set, seen) = set(&[probe("a"), probe("b"), Probe { opens: fault, ..probe("bad") }, probe("c")]);
        let Err(error) = open(&set, Grants::all()).await else { panic!("{said}") };
        assert_eq!(error.message(), format!("`bad` could not be opened: {said}"));
        let ended = ["host_error b", "drop b", "host_error a", "drop a"];
        assert_eq!(take(&seen), [&["open a", "open b", "open bad"][..], &ended].concat());
        let cause = (fault == Fault::Fails).then_some("for the operator");
        assert_eq!(error.cause().as_deref(), cause);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_finish_well_keeps_no_other_from_it() {
    for (fault, said) in [
        (Fault::Fails, "it is down"),
        (Fault::Hangs, "the backend did not answer in 60000 ms"),
        (Fault::Panics, "the backend panicked"),
        (Fault::PanicsLater, "the backend panicked"),
    ] {
        let (set, seen) = set(&[probe("a"), Probe { finishes: fault, ..probe("bad") }, probe("c")]);
        let mut opened = open(&set, Grants::all()).await.unwrap();
        take(&seen);
        let report = finish(&mut opened, &Ending::of(Outcome::Completed), WALL).await;
        assert_eq!(report.failures, [format!("bad: {said}")]);
        assert_eq!(report.usage.keys().collect::<Vec<_>>(), ["a", "bad", "c"]);
        let all = ["completed c", "drop c", "completed bad", "drop bad", "completed a", "drop a"];
        assert_eq!(take(&seen), all);
    }
}

#[tokio::test]
async fn a_panic_while_counting_or_dropping_stays_with_its_capability() {
    let bad = Probe { counts: Fault::Panics, drops: Fault::Panics, ..probe("bad") };
    let (set, seen) = set(&[probe("a"), bad, probe("c")]);
    let mut opened = open(&set, Grants::all()).await.unwrap();
    let report = finish(&mut opened, &Ending::of(Outcome::Completed), WALL).await;
    assert_eq!(report.failures, ["bad: panicked while it was dropped"]);
    assert_eq!(report.usage.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert!(opened.is_empty() && take(&seen).last().is_some_and(|last| last == "drop a"));
}
