//! The `T` of `Store<T>`: all that one execution has on the host's side.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Poll;

use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{CallHook, ResourceLimiterAsync, StoreContextMut};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::host_call::FUEL_PER_CALL;
use crate::wasi::{FilesView, PollView, Wasi};
use crate::{Budget, BudgetName, CapabilityContext, Exhausted, Gate, HostError, OpenCapability};

/// Owed fuel is taken from the store once it is this much: taking it costs more than owing it.
const SETTLE_FUEL: u64 = 20_000;

/// Guests yield about every two hundred thousand units, a fifth of a millisecond: whether they compute or call.
pub const FUEL_YIELD_INTERVAL: u64 = 200_000;

/// A guest yields when a memory grows beyond this: a first slice on the caller's thread never has much memory that the
/// host could be made to copy there.
const YIELD_MEMORY_BYTES: usize = 4 << 20;

/// All that one execution has on the host's side. It is never shared and never used twice.
pub struct State {
    gate: Arc<Gate>,
    opened: Vec<OpenCapability>,
    table: ResourceTable,
    wasi: Wasi,
    fuel_left: u64,
    fuel_left_at_yield: u64,
    /// What was taken last for a memory or table.
    growing: Option<(BudgetName, u64)>,
}

impl State {
    /// The state of a new execution, whose capabilities are open.
    pub fn new(gate: Arc<Gate>, opened: Vec<OpenCapability>, wasi: Wasi) -> Self {
        let meter = gate.meter();
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(meter.limit(BudgetName::Handles)).unwrap_or(usize::MAX));
        let fuel = meter.limit(BudgetName::Fuel);
        State { gate, opened, table, wasi, fuel_left: fuel, fuel_left_at_yield: fuel, growing: None }
    }

    /// The gate of this execution.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Fuel that is left, as of the guest's last call to the host; `None` is unlimited.
    pub fn fuel_left(&self) -> Option<u64> {
        (self.gate.meter().limit(BudgetName::Fuel) != Budget::UNLIMITED)
            .then(|| self.fuel_left.saturating_sub(self.gate.meter().fuel_owed()))
    }

    /// The view that a capability's host functions get.
    pub fn view<C: CapabilityContext>(&mut self) -> View<'_, C> {
        self.count_host_call();
        View {
            context: self.opened.iter_mut().find_map(|open| (&mut *open.context as &mut dyn Any).downcast_mut()),
            table: &mut self.table,
            gate: &self.gate,
            fuel_left: self.fuel_left,
        }
    }

    /// The view that WASI's file functions get.
    pub(crate) fn files(&mut self) -> FilesView<'_> {
        self.count_host_call();
        let given = WasiFilesystemCtxView { ctx: self.wasi.ctx.filesystem(), table: &mut self.table };
        FilesView { given, files: &mut self.wasi.files, meter: self.gate.meter() }
    }

    /// The view that WASI's poll gets.
    pub(crate) fn poll(&mut self) -> PollView<'_> {
        self.count_host_call();
        PollView { table: &mut self.table, meter: self.gate.meter() }
    }

    /// The guest will not run again: reads what only the state knows into the meter, logs the unfinished
    /// line of its stderr, and takes the open capabilities out, to finish them.
    pub fn close(&mut self) -> Vec<OpenCapability> {
        self.gate.meter().set(BudgetName::Handles, handles_peak(&mut self.table));
        self.wasi.flush_lines();
        std::mem::take(&mut self.opened)
    }

    /// Every host function passes here, WASI's too. A refusal is raised when the call returns.
    fn count_host_call(&self) {
        let meter = self.gate.meter();
        meter.owe_fuel(FUEL_PER_CALL);
        if let Err(exhausted) = meter.charge(BudgetName::HostCalls, 1) {
            meter.trip(exhausted);
        }
    }

    /// Takes what a memory or table grows by. Beyond its own maximum it does not grow, which the guest is told.
    fn take_memory(
        &mut self,
        name: BudgetName,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.growing = None;
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        self.gate.meter().charge(name, more).map_err(wasmtime::Error::new)?;
        self.growing = Some((name, more));
        Ok(true)
    }

    /// What was taken last did not grow after all.
    fn give_back(&mut self) {
        if let Some((name, more)) = self.growing.take() {
            self.gate.meter().release(name, more);
        }
    }
}

/// The most handles that were held at one time. The table takes a free place before it grows, so that is how
/// many places it has: once the free ones are filled, it holds as many. It is of no other use then.
fn handles_peak(table: &mut ResourceTable) -> u64 {
    table.set_max_capacity(0);
    while table.push(()).is_ok() {}
    table.iter_mut().count() as u64
}

/// Settles the host's bill in fuel whenever a host call returns, and yields if the guest computed or
/// called for long. Without it a loop of host calls would be free, and would never yield.
///
/// # Errors
/// A budget ran out during the call: the execution ends.
pub async fn settle_host_call(mut store: StoreContextMut<'_, State>, event: CallHook) -> wasmtime::Result<()> {
    match event {
        CallHook::CallingHost => {
            let fuel = store.get_fuel()?;
            store.data_mut().fuel_left = fuel;
            return Ok(());
        }
        CallHook::ReturningFromHost => {}
        CallHook::CallingWasm | CallHook::ReturningFromWasm => return Ok(()),
    }
    let meter = Arc::clone(store.data().gate.meter());
    if let Some(exhausted) = meter.tripped() {
        return Err(wasmtime::Error::new(exhausted));
    }
    if meter.fuel_owed() < SETTLE_FUEL {
        return Ok(());
    }
    let left = store.get_fuel()?;
    let Some(left) = left.checked_sub(meter.take_fuel_owed()) else {
        store.set_fuel(0)?;
        let limit = meter.limit(BudgetName::Fuel);
        return Err(wasmtime::Error::new(meter.refuse(BudgetName::Fuel, limit)));
    };
    // This also begins a new yield interval, which is why this function has to yield itself.
    store.set_fuel(left)?;
    let state = store.data_mut();
    if state.fuel_left_at_yield.saturating_sub(left) >= FUEL_YIELD_INTERVAL {
        state.fuel_left_at_yield = left;
        yield_now().await;
    }
    Ok(())
}

/// Lets others run. Unlike tokio's, which wakes once the thread that it began on has nothing else to do: the guest may
/// go on on another.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.count_host_call();
        WasiCtxView { ctx: &mut self.wasi.ctx, table: &mut self.table }
    }
}

/// Memories and tables are summed over the whole store: splitting them wins a guest nothing.
/// Growing beyond the budget ends the execution instead of returning -1: the end is named, and no
/// allocator has to guess what happened.
#[async_trait::async_trait]
impl ResourceLimiterAsync for State {
    async fn memory_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        if desired > YIELD_MEMORY_BYTES {
            yield_now().await;
        }
        self.take_memory(BudgetName::MemoryBytes, current, desired, max)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    async fn table_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        self.take_memory(BudgetName::TableElements, current, desired, max)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        usize::try_from(self.gate.meter().limit(BudgetName::Instances)).unwrap_or(usize::MAX)
    }

    fn memories(&self) -> usize {
        self.instances()
    }

    fn tables(&self) -> usize {
        self.instances().saturating_mul(4)
    }
}

/// What a capability's host functions work with during one call.
pub struct View<'a, C> {
    context: Option<&'a mut C>,
    table: &'a mut ResourceTable,
    gate: &'a Arc<Gate>,
    fuel_left: u64,
}

impl<C: CapabilityContext> View<'_, C> {
    /// The capability's context, together with the table of the guest's handles.
    ///
    /// # Errors
    /// The capability is not open for this execution: a fault of the host, which traps.
    pub fn parts(&mut self) -> wasmtime::Result<(&mut C, &mut ResourceTable, &Arc<Gate>)> {
        match &mut self.context {
            Some(context) => Ok((context, self.table, self.gate)),
            None => Err(wasmtime::Error::new(HostError::new("a capability was called that is not open"))),
        }
    }

    /// The gate of this execution.
    pub fn gate(&self) -> &Arc<Gate> {
        self.gate
    }

    /// The table of the guest's handles.
    pub fn table(&mut self) -> &mut ResourceTable {
        self.table
    }

    /// Fuel that the guest had when it called.
    pub fn fuel_left(&self) -> u64 {
        self.fuel_left
    }
}

/// Names [`View`] to the generated bindings.
pub struct HasView<C>(PhantomData<C>);

impl<C: CapabilityContext> HasData for HasView<C> {
    type Data<'a> = View<'a, C>;
}

/// A full table of handles, as a value for the guest.
pub(crate) fn handles_exhausted(gate: &Gate, table: &ResourceTable) -> Exhausted {
    gate.meter().refuse(BudgetName::Handles, table.max_capacity() as u64)
}
