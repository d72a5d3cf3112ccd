//! From a compiled workload to an instance: open the capabilities, make the store, set its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_host_api::wasi::{self, Capture, Stdio, Wasi};
use holm_host_api::{
    Budget, BudgetName, CapabilitySet, Ending, FUEL_YIELD_INTERVAL, Gate, HostError, Journal, Meter, Outcome, Scope,
    State, settle_host_call,
};
use wasmtime::{CallHook, CallHookHandler, Engine, Store, StoreContextMut};

use super::scratch::{ScratchFolder, ScratchRoot};
use super::{Asked, ExecutionRequest};
use crate::workload::{Compiled, Shape};

/// Where components of one workload call one another the engine copies what they pass and asks for no fuel for it. Such
/// a guest yields every few calls, so that they cannot hold a thread for long.
const COPYING_YIELD_INTERVAL: u64 = 1_000;

/// A time that no execution reaches: where `wall_ms` is unlimited.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An execution with its store, ready to run. Its wall time has begun.
pub(crate) struct Instantiated {
    pub(crate) store: Store<State>,
    /// After the store: what is open in it is closed first.
    pub(crate) scratch: Option<ScratchFolder>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) asked: Arc<Asked>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stdout: Capture,
}

/// Opens every capability and makes the store. The guest has not run yet: its start functions are part of the run.
pub(crate) async fn instantiate(
    engine: &Engine,
    capabilities: &CapabilitySet,
    open_time_max: Duration,
    scratch: Option<&Arc<ScratchRoot>>,
    asked: &Arc<Asked>,
    compiled: Arc<Compiled>,
) -> Result<Instantiated, HostError> {
    let request = &asked.request;
    let meter = Meter::new(request.budget.clone());
    meter.set(BudgetName::InputBytes, request.input.len() as u64);
    let mut gate = Gate::new(Arc::new(scope(asked)), Arc::new(meter));
    if request.journal_entries_max > 0 {
        gate = gate.with_journal(Journal::new(request.journal_entries_max));
    }
    let scratch = match (&request.wasi.scratch, scratch) {
        (None, _) => None,
        (Some(_), Some(root)) => Some(ScratchFolder::make(root).await?),
        (Some(_), None) => return Err(HostError::new("this runtime has no scratch folders to give")),
    };
    let mut opened = capabilities.open(&mut gate, open_time_max).await?;
    let gate = Arc::new(gate);
    let stdout = Capture::new(Arc::clone(gate.meter()));
    let stdio = match compiled.shape {
        Shape::Workload => Stdio::Workload,
        Shape::Command => Stdio::Command { stdin: request.input.clone(), stdout: stdout.clone() },
    };
    let wasi = match wasi(&gate, request, stdio, scratch.as_ref()) {
        Ok(wasi) => wasi,
        Err(error) => {
            holm_host_api::finish(&mut opened, &Ending::of(Outcome::HostError), open_time_max).await;
            return Err(error);
        }
    };
    let yield_interval = match request.workload.inspection().copies_between_components {
        true => COPYING_YIELD_INTERVAL,
        false => FUEL_YIELD_INTERVAL,
    };
    match store(engine, State::new(Arc::clone(&gate), opened, wasi), yield_interval) {
        Ok(store) => Ok(Instantiated { store, scratch, compiled, asked: Arc::clone(asked), gate, stdout }),
        Err(error) => Err(HostError::new("the store could not be made").because(error)),
    }
}

fn wasi(
    gate: &Arc<Gate>,
    request: &ExecutionRequest,
    stdio: Stdio,
    scratch: Option<&ScratchFolder>,
) -> Result<Wasi, HostError> {
    let wasi = wasi::context(gate, &request.wasi, stdio)?;
    match (scratch, &request.wasi.scratch) {
        (Some(folder), Some(guest)) => Ok(wasi.with_scratch(gate, folder.open()?, guest.clone())),
        _ => Ok(wasi),
    }
}

fn scope(Asked { request, cancellation, .. }: &Asked) -> Scope {
    let wall_max = match request.budget.limit(BudgetName::WallMs) {
        Budget::UNLIMITED => FOREVER,
        wall_ms_max => Duration::from_millis(wall_ms_max).min(FOREVER),
    };
    let started = Instant::now();
    Scope {
        execution: request.execution,
        user: request.user.clone(),
        session: request.session.clone(),
        program: request.program.clone(),
        profile: request.profile.clone(),
        workload: Arc::clone(request.workload.digest_text()),
        input_bytes: request.input.len() as u64,
        grants: Arc::clone(&request.grants),
        config: Arc::clone(&request.config),
        started,
        deadline: started + wall_max,
        cancellation: cancellation.clone(),
    }
}

fn store(engine: &Engine, state: State, yield_interval: u64) -> wasmtime::Result<Store<State>> {
    let meter = state.gate().meter();
    let fuel = meter.limit(BudgetName::Fuel);
    // The most that one call can make the host copy: no more than the guest could hold itself.
    let copied_max = usize::try_from(meter.limit(BudgetName::MemoryBytes)).unwrap_or(usize::MAX);
    let mut store = Store::new(engine, state);
    store.limiter_async(|state| state);
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(yield_interval))?;
    store.set_hostcall_fuel(copied_max);
    store.call_hook_async(SettleHostCalls);
    Ok(store)
}

struct SettleHostCalls;

#[async_trait::async_trait]
impl CallHookHandler<State> for SettleHostCalls {
    async fn handle_call_event(&self, store: StoreContextMut<'_, State>, event: CallHook) -> wasmtime::Result<()> {
        settle_host_call(store, event).await
    }
}
