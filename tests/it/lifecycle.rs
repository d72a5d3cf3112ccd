//! Capabilities are opened all or none, and finish in reverse order on every outcome, whatever their backends do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use holm_host_api::{Capability, CapabilityContext, Ending, Gate, HostError, Outcome, State};
use serde_json::json;
use wasmtime::component::Linker;

use crate::support::{Host, small};

type Seen = Arc<Mutex<Vec<String>>>;

/// What a capability of the test does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    OpenFails,
    OpenPanics,
    OpenHangs,
    FinishFails,
    FinishPanics,
    FinishHangs,
    DropPanics,
}

struct Faulty {
    name: &'static str,
    fault: Fault,
    seen: Seen,
}

struct FaultyContext {
    name: &'static str,
    fault: Fault,
    seen: Seen,
}

impl Capability for Faulty {
    fn name(&self) -> &'static str {
        self.name
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &[]
    }

    fn link(&self, _linker: &mut Linker<State>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn open<'a>(&'a self, _gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        async {
            match self.fault {
                Fault::OpenFails => return Err(HostError::new("not today").because("secret address 10.0.0.1")),
                Fault::OpenPanics => panic!("secret"),
                Fault::OpenHangs => std::future::pending().await,
                _ => {}
            }
            self.seen.lock().unwrap().push(format!("open {}", self.name));
            let context = FaultyContext { name: self.name, fault: self.fault, seen: Arc::clone(&self.seen) };
            Ok(Box::new(context) as Box<dyn CapabilityContext>)
        }
        .boxed()
    }
}

impl CapabilityContext for FaultyContext {
    fn finish<'a>(&'a mut self, ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        async {
            self.seen.lock().unwrap().push(format!("finish {} {}", self.name, ending.outcome.kind()));
            match self.fault {
                Fault::FinishFails => Err(HostError::new("could not flush")),
                Fault::FinishPanics => panic!("secret"),
                Fault::FinishHangs => std::future::pending().await,
                _ => Ok(()),
            }
        }
        .boxed()
    }
}

impl Drop for FaultyContext {
    fn drop(&mut self) {
        if self.fault == Fault::DropPanics {
            panic!("secret");
        }
    }
}

fn host(fault: Fault) -> (Host, Seen) {
    let seen = Seen::default();
    let capability = |name, fault| Faulty { name, fault, seen: Arc::clone(&seen) };
    let (first, second, third) =
        (capability("first", Fault::None), capability("second", fault), capability("third", Fault::None));
    let host = Host::with(|builder| {
        builder
            .open_time_max(Duration::from_millis(200))
            .finish_time_max(Duration::from_millis(200))
            .capability(first)
            .capability(second)
            .capability(third)
    });
    (host, seen)
}

fn taken(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut seen.lock().unwrap())
}

#[tokio::test]
async fn finish_comes_in_reverse_order_on_every_outcome() {
    let (host, seen) = host(Fault::None);
    for (action, kind) in [
        (json!({ "do": "echo" }), "completed"),
        (json!({ "do": "fail" }), "guest_error"),
        (json!({ "do": "unreachable" }), "trapped"),
        (json!({ "do": "spin" }), "budget_exceeded"),
    ] {
        host.act_within(action, small()).await;
        let expected = ["open first", "open second", "open third"].map(str::to_owned).into_iter();
        let finishes = ["third", "second", "first"].map(|name| format!("finish {name} {kind}"));
        assert_eq!(taken(&seen), expected.chain(finishes).collect::<Vec<_>>());
    }
    let cancelled = host.request(json!({ "do": "spin" }));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancelled.cancellation.cancel();
    };
    tokio::join!(host.runtime.execute(cancelled.clone()), stop);
    assert_eq!(taken(&seen)[3..], ["third", "second", "first"].map(|name| format!("finish {name} cancelled")));
}

#[tokio::test]
async fn a_backend_that_fails_hangs_or_panics_at_the_end_hurts_nobody() {
    for (fault, said) in [
        (Fault::FinishFails, "could not flush"),
        (Fault::FinishPanics, "panicked"),
        (Fault::FinishHangs, "did not answer in 200 ms"),
        (Fault::DropPanics, "panicked while it was dropped"),
    ] {
        let (host, seen) = host(fault);
        let execution = host.beside_a_neighbour(host.request(json!({ "do": "echo", "value": "kept" }))).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "the outcome stands");
        assert_eq!(execution.output, b"\"kept\"");
        let failures = &execution.record.finish.failures;
        assert!(failures.len() == 1 && failures[0].contains(said), "{failures:?}");
        assert!(!format!("{:?}", execution.record).contains("secret"));
        assert!(taken(&seen).contains(&"finish first completed".to_owned()), "the others finish all the same");
    }
}

#[tokio::test]
async fn they_open_all_or_none() {
    for fault in [Fault::OpenFails, Fault::OpenPanics, Fault::OpenHangs] {
        let (host, seen) = host(fault);
        let execution = host.act(json!({ "do": "echo" })).await;
        assert_eq!(execution.record.outcome, Outcome::HostError);
        let error = execution.record.error.clone().unwrap();
        assert!(error.contains("`second` could not be opened"), "{error}");
        assert!(!format!("{:?}", execution.record).contains("secret"), "the cause is the operator's");
        if fault == Fault::OpenFails {
            assert!(execution.cause.unwrap().contains("secret address"));
        }
        assert_eq!(taken(&seen), ["open first", "finish first host_error"]);
        host.assert_nothing_held().await;
    }
}
