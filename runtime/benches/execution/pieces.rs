//! The library's own pieces, put together by hand up to some point, to see what each adds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use holm_runtime::host_api::events::{DiscardEvents, Events};
use holm_runtime::host_api::execution::Execution;
use holm_runtime::host_api::llm::{Llm, OfflineProvider};
use holm_runtime::host_api::trace::{MemoryTrace, Trace};
use holm_runtime::host_api::wasi::{self, Stdio, WasiSettings};
use holm_runtime::host_api::{
    Budget, CapabilitySet, Ending, FUEL_YIELD_INTERVAL, Gate, Grants, Meter, Name, Outcome, Scope, State, finish,
    settle_host_call,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{CallHook, CallHookHandler, Engine, Store, StoreContextMut};

use crate::bare;

const TIME_MAX: Duration = Duration::from_secs(5);

/// How much of an execution is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Upto {
    /// Scope, meter, gate, metered WASI and the state of the store.
    Store,
    /// The hook that settles what host calls cost.
    Hook,
    /// The standard capabilities, opened and finished.
    Capabilities,
    /// Deadline, cancellation, panics, time on the processor.
    Bounds,
}

impl Upto {
    pub const ALL: [Upto; 4] = [Upto::Store, Upto::Hook, Upto::Capabilities, Upto::Bounds];

    pub fn name(self) -> &'static str {
        match self {
            Upto::Store => "scope, meter, gate, metered WASI (in place of WasiCtx)",
            Upto::Hook => "call hook that settles host calls",
            Upto::Capabilities => "four capabilities opened and finished",
            Upto::Bounds => "deadline, cancellation, panics caught",
        }
    }
}

/// Everything that outlives an execution.
pub struct Pieces {
    engine: Engine,
    capabilities: CapabilitySet,
    pre: InstancePre<State>,
    run: ComponentExportIndex,
    user: Name,
    workload: Arc<str>,
    grants: Arc<Grants>,
}

impl Pieces {
    pub fn new(component: &[u8], digest: String) -> Self {
        let engine = bare::engine();
        let mut capabilities = CapabilitySet::default();
        capabilities
            .add(Execution)
            .and_then(|set| set.add(Events::new(Arc::new(DiscardEvents))))
            .and_then(|set| set.add(Trace::new(Arc::new(MemoryTrace::default()))))
            .and_then(|set| set.add(Llm::new(Arc::new(OfflineProvider::default()))))
            .unwrap();
        let mut linker = Linker::<State>::new(&engine);
        wasi::link(&mut linker).unwrap();
        capabilities.link(&mut linker).unwrap();
        let component = Component::from_binary(&engine, component).unwrap();
        Pieces {
            run: component.get_export_index(None, "run").unwrap(),
            pre: linker.instantiate_pre(&component).unwrap(),
            engine,
            capabilities,
            user: "alice".parse().unwrap(),
            workload: digest.into(),
            grants: Arc::new(Grants::all()),
        }
    }

    pub async fn run(&self, upto: Upto, input: &str) {
        let mut gate = Gate::new(Arc::new(self.scope(input)), Arc::new(Meter::new(Budget::default())));
        let opened = match upto >= Upto::Capabilities {
            true => self.capabilities.open(&mut gate, TIME_MAX).await.unwrap(),
            false => Vec::new(),
        };
        let gate = Arc::new(gate);
        let wasi = wasi::context(&gate, &WasiSettings::default(), Stdio::Workload).unwrap();
        let mut store = Store::new(&self.engine, State::new(Arc::clone(&gate), opened, wasi));
        store.limiter_async(|state| state);
        store.set_fuel(bare::FUEL).unwrap();
        store.fuel_async_yield_interval(Some(FUEL_YIELD_INTERVAL)).unwrap();
        if upto >= Upto::Hook {
            store.call_hook_async(Settle);
        }
        let output = match upto >= Upto::Bounds {
            true => self.call_within_bounds(&mut store, &gate, input).await,
            false => self.call(&mut store, input).await,
        };
        assert_eq!(output.len(), input.len());
        let mut opened = store.data_mut().close();
        let ending = Ending { output: output.into_bytes(), ..Ending::of(Outcome::Completed) };
        let report = finish(&mut opened, &ending, TIME_MAX).await;
        assert!(report.failures.is_empty());
    }

    async fn call_within_bounds(&self, store: &mut Store<State>, gate: &Gate, input: &str) -> String {
        let scope = Arc::clone(gate.scope());
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(scope.deadline.into()) => unreachable!(),
            () = scope.cancellation.cancelled() => unreachable!(),
            output = AssertUnwindSafe(self.call(store, input)).catch_unwind() => output.unwrap(),
        }
    }

    async fn call(&self, store: &mut Store<State>, input: &str) -> String {
        let instance = self.pre.instantiate_async(&mut *store).await.unwrap();
        let run = instance.get_typed_func::<(&str,), (Result<String, String>,)>(&mut *store, self.run).unwrap();
        let (output,) = run.call_async(&mut *store, (input,)).await.unwrap();
        output.unwrap()
    }

    fn scope(&self, input: &str) -> Scope {
        let started = Instant::now();
        Scope {
            execution: Uuid::now_v7(),
            user: self.user.clone(),
            session: None,
            program: None,
            profile: None,
            workload: Arc::clone(&self.workload),
            input_bytes: input.len() as u64,
            grants: Arc::clone(&self.grants),
            config: Arc::default(),
            started,
            deadline: started + Duration::from_secs(30),
            cancellation: CancellationToken::new(),
        }
    }
}

struct Settle;

#[async_trait::async_trait]
impl CallHookHandler<State> for Settle {
    async fn handle_call_event(&self, store: StoreContextMut<'_, State>, event: CallHook) -> wasmtime::Result<()> {
        settle_host_call(store, event).await
    }
}
