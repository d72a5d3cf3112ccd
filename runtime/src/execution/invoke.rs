//! The run: the guest computes and calls, until it returns or something ends it.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use holm_host_api::{BudgetName, State};
use wasmtime::Store;

use super::Instantiated;
use super::Turns;
use super::finish::Ended;
use crate::workload::{Compiled, Shape};

/// After a cancellation the guest may take this long to return by itself.
const CANCEL_GRACE: Duration = Duration::from_millis(250);

/// Turns that a guest has before its thread looks after others, if no other guest wants them: about two
/// milliseconds. Going through the queue of the threads wakes another one as a rule, which costs.
const TURNS_IN_A_ROW_MAX: u32 = 4;

/// How the run stopped, before anybody judges it.
pub(super) enum Stopped {
    /// The entry point returned this text.
    Returned(Result<String, String>),
    /// A command's `run` returned.
    Exited(Result<(), ()>),
    /// The guest trapped, or a host function ended it.
    Failed(wasmtime::Error),
    /// The host's code panicked.
    Panicked,
    /// The deadline passed.
    Deadline,
    /// It was asked to stop, and did not in time.
    Cancelled,
}

impl Instantiated {
    /// Runs the guest to its end. Nothing that happens in it reaches the caller but as a value.
    pub(crate) async fn run(mut self, turns: &Arc<Turns>) -> Ended {
        let scope = Arc::clone(self.gate.scope());
        let mut cpu = Duration::ZERO;
        let stopped = {
            let work = invoke(&mut self.store, &self.compiled, &self.asked.request.input);
            let work = pin!(AssertUnwindSafe(work).catch_unwind());
            let mut guest = turns.share(&scope.user, work, &mut cpu);
            let mut deadline = pin!(async { tokio::time::sleep_until(scope.deadline.into()).await });
            let mut cancelled = pin!(ended_by_cancellation(&scope.cancellation));
            poll_fn(|context| {
                for _ in 0..TURNS_IN_A_ROW_MAX {
                    // The guest first: one that never waits needs no timer.
                    if let Poll::Ready(stopped) = Pin::new(&mut guest).poll(context) {
                        return Poll::Ready(stopped.unwrap_or(Stopped::Panicked));
                    }
                    if deadline.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Stopped::Deadline);
                    }
                    if cancelled.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Stopped::Cancelled);
                    }
                    if !guest.goes_on() {
                        return Poll::Pending;
                    }
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await
        };
        self.read_meters();
        Ended::new(self, stopped, cpu)
    }

    /// Puts what the store counts by itself into the meter.
    fn read_meters(&mut self) {
        let meter = self.gate.meter();
        let fuel_max = meter.limit(BudgetName::Fuel);
        let fuel_left = self.store.get_fuel().unwrap_or(0);
        meter.set(BudgetName::Fuel, fuel_max.saturating_sub(fuel_left).saturating_add(meter.fuel_owed()).min(fuel_max));
        meter.set(BudgetName::WallMs, millis(self.gate.scope().elapsed()));
    }
}

async fn invoke(store: &mut Store<State>, compiled: &Compiled, input: &[u8]) -> Stopped {
    let called = async {
        store.data().gate().meter().charge(BudgetName::Instances, compiled.instances)?;
        let instance = compiled.pre.instantiate_async(&mut *store).await?;
        match compiled.shape {
            Shape::Workload => {
                let run = instance.get_typed_func::<(&str,), (Result<String, String>,)>(&mut *store, compiled.entry)?;
                let input = std::str::from_utf8(input)?;
                let (returned,) = run.call_async(&mut *store, (input,)).await?;
                Ok(Stopped::Returned(returned))
            }
            Shape::Command => {
                let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, compiled.entry)?;
                let (exited,) = run.call_async(&mut *store, ()).await?;
                Ok(Stopped::Exited(exited))
            }
        }
    };
    called.await.unwrap_or_else(Stopped::Failed)
}

async fn ended_by_cancellation(cancellation: &tokio_util::sync::CancellationToken) {
    cancellation.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
