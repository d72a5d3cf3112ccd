//! An execution without Wasm: the real gate, state and capabilities, whose host functions tests call directly.
#![allow(clippy::unwrap_used, reason = "a failed test should stop there")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use wasmtime::component::Resource;

use crate::bindings::types::Denied as GuestDenied;
use crate::events::{Event, EventKind, Events, MemoryEvents};
use crate::execution::Execution;
use crate::trace::{CallTree, MemoryTrace, Trace};
use crate::wasi::{self, Preopen, SCRATCH_GUEST_PATH, Stdio, WasiSettings};
use crate::{
    Budget, BudgetName, Capability, CapabilityContext, CapabilitySet, Ending, FinishReport, Gate, Grants, Journal,
    JournalEntry, Meter, Outcome, Scope, State, View, finish,
};

/// Wall time of an execution, and the most that opening and finishing may take.
pub(crate) const WALL: Duration = Duration::from_secs(60);

/// The scope of a new execution of alice's, to whom everything is granted.
pub(crate) fn scope() -> Scope {
    // Of the clock that tests pause and wind on.
    let started = tokio::time::Instant::now().into_std();
    Scope {
        execution: Uuid::now_v7(),
        user: "alice".parse().unwrap(),
        session: None,
        program: None,
        profile: None,
        workload: "sha256:00".into(),
        input_bytes: 0,
        grants: Arc::new(Grants::all()),
        config: Arc::default(),
        started,
        deadline: started + WALL,
        cancellation: Default::default(),
    }
}

/// An execution that is being prepared. `execution`, `events` and `trace` are there, and a journal is kept.
pub(crate) struct Fixture {
    scope: Scope,
    budget: Budget,
    capabilities: CapabilitySet,
    events: MemoryEvents,
    trace: MemoryTrace,
    wasi: WasiSettings,
    scratch: Option<File>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let (events, trace) = (MemoryEvents::default(), MemoryTrace::default());
        let mut capabilities = CapabilitySet::default();
        capabilities.add(Execution).unwrap();
        capabilities.add(Events::new(Arc::new(events.clone()))).unwrap();
        capabilities.add(Trace::new(Arc::new(trace.clone()))).unwrap();
        let (budget, wasi) = (Budget::default(), WasiSettings::default());
        Fixture { scope: scope(), budget, capabilities, events, trace, wasi, scratch: None }
    }

    pub(crate) fn with(mut self, capability: impl Capability) -> Self {
        self.capabilities.add(capability).unwrap();
        self
    }

    pub(crate) fn limit(mut self, name: BudgetName, limit: u64) -> Self {
        self.budget.set(name, limit);
        self
    }

    /// Grants these, and nothing else.
    pub(crate) fn grants(self, grants: &[&str]) -> Self {
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        self.scoped(|scope| scope.grants = Arc::new(grants))
    }

    pub(crate) fn config(self, key: &str, value: &str) -> Self {
        let config = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        self.scoped(|scope| scope.config = Arc::new(config))
    }

    /// Gives the guest a folder of the host.
    pub(crate) fn folder(mut self, host: &Path, guest: &str, writable: bool) -> Self {
        self.wasi.preopens.push(Preopen { host: host.to_owned(), guest: guest.to_owned(), writable });
        self
    }

    /// Makes this the guest's scratch folder.
    pub(crate) fn scratch(mut self, folder: &Path) -> Self {
        self.scratch = Some(File::open(folder).unwrap());
        self
    }

    pub(crate) fn scoped(mut self, change: impl FnOnce(&mut Scope)) -> Self {
        change(&mut self.scope);
        self
    }

    pub(crate) async fn open(self) -> Host {
        let Fixture { scope, budget, capabilities, events, trace, wasi, scratch } = self;
        let gate = Gate::new(Arc::new(scope), Arc::new(Meter::new(budget)));
        let mut gate = gate.with_journal(Journal::new(10_000));
        let opened = capabilities.open(&mut gate, WALL).await.unwrap();
        let gate = Arc::new(gate);
        let wasi = wasi::context(&gate, &wasi, Stdio::Workload).unwrap();
        let wasi = match scratch {
            Some(folder) => wasi.with_scratch(&gate, folder, SCRATCH_GUEST_PATH.to_owned()),
            None => wasi,
        };
        Host { state: State::new(gate, opened, wasi), events, trace }
    }
}

/// The host's side of an execution that is under way.
pub(crate) struct Host {
    pub(crate) state: State,
    events: MemoryEvents,
    trace: MemoryTrace,
}

impl Host {
    pub(crate) fn view<C: CapabilityContext>(&mut self) -> View<'_, C> {
        self.state.view()
    }

    pub(crate) fn meter(&self) -> Arc<Meter> {
        Arc::clone(self.state.gate().meter())
    }

    pub(crate) fn used(&self, name: BudgetName) -> u64 {
        self.meter().used(name)
    }

    pub(crate) fn scope(&self) -> Arc<Scope> {
        Arc::clone(self.state.gate().scope())
    }

    /// Asks the execution to stop once it has waited for this long.
    pub(crate) fn cancel_after(&self, wait: Duration) {
        let cancellation = self.scope().cancellation.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            cancellation.cancel();
        });
    }

    /// The events that were sent since the last time.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.take(self.scope().execution)
    }

    /// The log lines that were written since the last time.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let line = |event: Event| match event.kind {
            EventKind::Log { message, .. } => Some(message),
            _ => None,
        };
        self.events().into_iter().filter_map(line).collect()
    }

    pub(crate) fn tree(&self) -> CallTree {
        self.trace.tree(self.scope().execution).unwrap()
    }

    /// Operations and statuses of the trace, nested.
    pub(crate) fn shape(&self) -> String {
        fn shape(call: &CallTree) -> String {
            let children: Vec<_> = call.children.iter().map(shape).collect();
            format!("{} {}({})", call.operation, call.status.as_str(), children.join(", "))
        }
        shape(&self.tree())
    }

    /// The journal: a line a call, with the error of those that were denied.
    pub(crate) fn journal(&self) -> Vec<String> {
        let (entries, more) = self.state.gate().journal().unwrap().entries();
        assert_eq!(more, 0);
        let line = |entry: JournalEntry| match entry.result {
            Ok(_) => format!("{}.{}", entry.capability, entry.function),
            Err(error) => format!("{}.{}: {error}", entry.capability, entry.function),
        };
        entries.into_iter().map(line).collect()
    }

    /// The guest ended so: finishes every capability, as the runtime does.
    pub(crate) async fn finish(&mut self, outcome: Outcome) -> FinishReport {
        finish(&mut self.state.close(), &Ending::of(outcome), WALL).await
    }
}

/// The handle, lent to a call as a guest lends it.
pub(crate) fn lend<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

/// The name of the budget that ran out. It fails if that is not why the call was denied.
#[track_caller]
pub(crate) fn exhausted(denied: &GuestDenied) -> &str {
    assert!(matches!(denied, GuestDenied::Exhausted(_)), "{denied:?}");
    match denied {
        GuestDenied::Exhausted(exhausted) => &exhausted.budget,
        _ => "",
    }
}

/// Lets every task that is ready run.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}
