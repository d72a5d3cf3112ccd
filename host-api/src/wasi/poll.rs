//! WASI's poll, billed by what it polls.

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll;

use crate::host_call::FUEL_PER_CALL;
use crate::{BudgetName, Meter};

type Pollable = wasmtime_wasi::p2::DynPollable;

/// The pollables of one execution. All else is wasmtime-wasi's.
pub(crate) struct PollView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) meter: &'a Meter,
}

/// Names [`PollView`] to the generated bindings.
pub(super) struct HasPoll;

impl HasData for HasPoll {
    type Data<'a> = PollView<'a>;
}

impl poll::Host for PollView<'_> {
    /// Each pollable costs what a call does, as each is asked. Traps if the list names more than the guest may hold:
    /// it names some again and again.
    async fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        let asked = pollables.len() as u64;
        let limit = self.meter.limit(BudgetName::Handles);
        if asked > limit {
            return Err(wasmtime::Error::new(self.meter.refuse(BudgetName::Handles, limit)));
        }
        self.meter.owe_fuel(asked.saturating_mul(FUEL_PER_CALL));
        poll::Host::poll(self.table, pollables).await
    }
}

impl poll::HostPollable for PollView<'_> {
    async fn block(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        poll::HostPollable::block(self.table, pollable).await
    }

    async fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
