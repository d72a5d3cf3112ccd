//! Host functions, backends and sinks that panic: the execution ends as a host error, or the call is denied, and
//! nothing is broken for others. Faults while a capability opens, finishes and is dropped are in `lifecycle` too.

mod backends;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use holm_host_api::{Capability, CapabilityContext, Ending, Gate, HostError, Outcome, State, View};
use wasmtime::component::Linker;

use super::guests::Guest;
use super::{attack, beside_a_neighbour, request};
use crate::support::Host;

/// What no record may hold.
const SECRET: &str = "secret-10.0.0.1";

/// Where the capability of the tests panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    /// In a host function, as its argument says.
    Call,
    Open,
    Finish,
    Drop,
    Usage,
}

/// In the function itself; after a wait; while it holds a lock that all executions share; with a payload that
/// panics when it is dropped.
const AT_ONCE: u32 = 0;
const LOCKED: u32 = 1;
const CRUEL: u32 = 2;

/// A payload whose end is a panic as well.
struct Cruel;

impl Drop for Cruel {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{SECRET}");
        }
    }
}

#[derive(Clone)]
struct Faults {
    place: Where,
    /// Opens that do not panic.
    spared: Arc<AtomicU32>,
    shared: Arc<Mutex<u32>>,
}

struct FaultsContext {
    place: Where,
    shared: Arc<Mutex<u32>>,
}

impl Faults {
    fn new(place: Where) -> Self {
        Faults { place, spared: Arc::default(), shared: Arc::default() }
    }

    fn fault(&self, which: u32) {
        match which {
            AT_ONCE => panic!("{SECRET}"),
            LOCKED => {
                let mut held = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                *held += 1;
                panic!("{SECRET}");
            }
            CRUEL => std::panic::panic_any(Cruel),
            // Anything else works.
            _ => {}
        }
    }
}

impl Capability for Faults {
    fn name(&self) -> &'static str {
        "faults"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["test:faults/faults@0.1.0"]
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        let mut faults = linker.instance("test:faults/faults@0.1.0")?;
        let (now, later) = (self.clone(), self.clone());
        faults.func_wrap("fault", move |mut store, (which,): (u32,)| {
            let _view: View<'_, FaultsContext> = store.data_mut().view();
            now.fault(which);
            Ok(())
        })?;
        faults.func_wrap_async("later", move |_store, (which,): (u32,)| {
            let later = later.clone();
            Box::new(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                later.fault(which);
                Ok(())
            })
        })
    }

    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        let mallory = gate.scope().user.as_str() == "mallory";
        async move {
            if self.place == Where::Open && mallory {
                panic!("{SECRET}");
            }
            self.spared.fetch_add(1, Ordering::Relaxed);
            let place = if mallory { self.place } else { Where::Call };
            Ok(Box::new(FaultsContext { place, shared: Arc::clone(&self.shared) }) as Box<dyn CapabilityContext>)
        }
        .boxed()
    }
}

impl CapabilityContext for FaultsContext {
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        if self.place == Where::Finish {
            // Its own lock is poisoned for whoever does not expect that.
            let _held = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            panic!("{SECRET}");
        }
        std::future::ready(Ok(())).boxed()
    }

    fn usage(&self) -> Option<serde_json::Value> {
        if self.place == Where::Usage {
            panic!("{SECRET}");
        }
        None
    }
}

impl Drop for FaultsContext {
    fn drop(&mut self) {
        if self.place == Where::Drop {
            panic!("{SECRET}");
        }
    }
}

fn host(faults: &Faults, executions_max: u32) -> Host {
    let faults = faults.clone();
    Host::with(|builder| builder.executions_max(executions_max).capability(faults))
}

#[track_caller]
fn assert_host_error(execution: &holm_runtime::Execution, what: &str) {
    assert_eq!(execution.record.outcome, Outcome::HostError, "{what}: {:?}", execution.record.error);
    let shown = serde_json::to_string(&execution.record).unwrap();
    assert!(!shown.contains(SECRET) && !shown.contains("panics.rs"), "{shown}");
    let error = execution.record.error.as_deref().unwrap();
    assert!(!error.is_empty() && error.len() < 200, "{error}");
}

#[tokio::test]
async fn a_host_function_that_panics_ends_its_execution_alone() {
    // One place: whatever a panic kept, the neighbour would wait for for ever.
    let faults = Faults::new(Where::Call);
    let host = host(&faults, 1);
    for (import, which) in
        [("fault", AT_ONCE), ("fault-later", AT_ONCE), ("fault", LOCKED), ("fault-later", LOCKED), ("fault", CRUEL)]
    {
        let guest = Guest::new(&[import], format!("(call ${import} (i32.const {which}))"));
        let execution = attack(&host, &guest).await;
        assert_host_error(&execution, &format!("{import} {which}"));
    }
    let works = Guest::new(&["fault", "fault-later"], "(call $fault (i32.const 9)) (call $fault-later (i32.const 9))");
    assert_eq!(attack(&host, &works).await.record.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_capability_that_panics_around_an_execution_hurts_it_alone() {
    for place in [Where::Open, Where::Finish, Where::Drop, Where::Usage] {
        let faults = Faults::new(place);
        let host = host(&faults, 1);
        for _ in 0..3 {
            let execution = attack(&host, &Guest::new(&["fault"], "")).await;
            let shown = serde_json::to_string(&execution.record).unwrap();
            assert!(!shown.contains(SECRET), "{shown}");
            if place == Where::Open {
                assert_host_error(&execution, "open");
            } else {
                assert_eq!(execution.record.outcome, Outcome::Completed, "{place:?}: the outcome stands");
                assert_eq!(execution.output, b"x");
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_panics_in_a_row_leave_a_host_as_good_as_new() {
    let faults = Faults::new(Where::Call);
    let host = host(&faults, 2);
    let guests = [("fault", LOCKED), ("fault-later", AT_ONCE)]
        .map(|(import, which)| Guest::new(&[import], format!("(call ${import} (i32.const {which}))")));
    let requests = guests.map(|guest| request(&host, "mallory", &guest));
    beside_a_neighbour(&host, async {
        for _ in 0..250 {
            let four = requests.iter().cycle().take(4).map(|request| {
                let mut request = request.clone();
                request.execution = uuid::Uuid::now_v7();
                host.runtime.execute(request)
            });
            for execution in futures::future::join_all(four).await {
                assert_eq!(execution.record.outcome, Outcome::HostError);
            }
        }
    })
    .await;
    assert_eq!(*faults.shared.lock().unwrap_or_else(PoisonError::into_inner), 500);
}
