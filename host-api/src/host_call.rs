//! The gate: the one way from a guest's call to a backend.
//!
//! Every host function of every capability enters here. The gate asks whether the call is granted and
//! within budget, races it with deadline and cancellation, bills the host's work, and shows the call to
//! the trace and the journal. Rooms convert and call; they hold no policy.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use uuid::Uuid;

use crate::journal::{Journal, JournalEntry};
use crate::{BudgetName, Denied, Exhausted, Level, Meter, Scope};

/// Fuel for the host's own work in any call, in units of about a nanosecond.
pub(crate) const FUEL_PER_CALL: u64 = 500;

/// What is kept of an error that the guest logged, to say it with a trap.
const LAST_ERROR_CHARS_MAX: usize = 500;

/// How a call shows in which the host's own code panicked.
const HOST_FAILED: &str = "the host failed";

/// Sees host calls begin and end. The trace capability is one: that is how a call to a language model
/// shows as a child of the guest's current trace call without either room knowing of the other.
pub trait CallObserver: Send + Sync {
    /// A call begins. `None` if it is not kept.
    fn started(&self, operation: &str, inputs: Value) -> Option<ObservedCall>;
    /// It ended.
    fn ended(&self, call: ObservedCall, result: Result<Value, String>);
}

/// A call that an observer keeps: the observer's own number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedCall(pub Uuid);

/// Takes the log lines of an execution.
pub trait LogSink: Send + Sync {
    /// One line, already within budget. It never blocks.
    fn log(&self, execution: Uuid, level: Level, message: &str);
}

/// What stands between one execution's guest and everything else. Shared by its capabilities.
pub struct Gate {
    scope: Arc<Scope>,
    meter: Arc<Meter>,
    observer: Option<Arc<dyn CallObserver>>,
    log: Option<Arc<dyn LogSink>>,
    last_error: Mutex<Option<String>>,
    journal: Option<Journal>,
}

impl Gate {
    /// A gate with nothing behind it yet.
    pub fn new(scope: Arc<Scope>, meter: Arc<Meter>) -> Self {
        Gate { scope, meter, observer: None, log: None, last_error: Mutex::default(), journal: None }
    }

    /// Keeps a journal of the calls of this execution.
    #[must_use]
    pub fn with_journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Shows all later calls to this observer. Capabilities do it as they open.
    pub fn observe(&mut self, observer: Arc<dyn CallObserver>) {
        self.observer = Some(observer);
    }

    /// Sends the log, and what a guest writes to stderr, to this sink.
    pub fn log_to(&mut self, log: Arc<dyn LogSink>) {
        self.log = Some(log);
    }

    /// Whose execution this is.
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// What it used and may use.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The journal, if one is kept.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Logs a line, within `log_bytes` and `log_lines`.
    ///
    /// # Errors
    /// The budget ran out.
    pub fn log(&self, level: Level, message: &str) -> Result<(), Exhausted> {
        let line = [(BudgetName::LogBytes, message.len() as u64 + 1), (BudgetName::LogLines, 1)];
        self.meter.charge_all(&line)?;
        if level == Level::Error {
            let kept = message.chars().take(LAST_ERROR_CHARS_MAX).collect();
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        if let Some(log) = &self.log {
            log.log(self.scope.execution, level, message);
        }
        Ok(())
    }

    /// The beginning of what the guest logged last as an error: it says more of a trap than the trap itself, as
    /// panics are logged.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for work, but not beyond the deadline or a cancellation.
    ///
    /// # Errors
    /// The work's own error, or the denial that says why it was given up.
    pub async fn race<T, E: From<Denied>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.scope.cancellation.cancelled() => Err(Denied::Cancelled.into()),
            () = async { tokio::time::sleep_until(self.scope.deadline.into()).await } => {
                let waited_ms = u64::try_from(self.scope.elapsed().as_millis()).unwrap_or(u64::MAX);
                // A guest that fails of this failed of its budget.
                self.meter.refuse(BudgetName::WallMs, waited_ms);
                Err(Denied::TimedOut.into())
            }
        }
    }

    /// Enters a host call that needs a grant.
    ///
    /// # Errors
    /// The function is not granted, or the execution is about to end.
    pub fn enter(self: &Arc<Self>, capability: &'static str, function: &'static str) -> Result<HostCall, Denied> {
        let call = self.enter_granted(capability, function)?;
        if self.scope.grants.allows_call(capability, function) {
            Ok(call)
        } else {
            call.end(Err(Denied::NotGranted(format!("{capability}.{function}"))))
        }
    }

    /// Enters a host call that needs no grant, or whose grant was asked for when the guest got the handle.
    ///
    /// # Errors
    /// The budget that the execution is about to end of: nothing more is done for it.
    pub fn enter_granted(
        self: &Arc<Self>,
        capability: &'static str,
        function: &'static str,
    ) -> Result<HostCall, Exhausted> {
        // The clock is read only where somebody looks: most host calls are shorter than that.
        let entered = self.journal.is_some().then(Instant::now);
        let call = HostCall { gate: Arc::clone(self), capability, function, entered, observed: None, ended: false };
        match self.meter.tripped() {
            None => {
                tracing::trace!(capability, function, execution = %self.scope.execution, "host call");
                Ok(call)
            }
            Some(exhausted) => call.end(Err(exhausted)),
        }
    }
}

/// One call of the guest to the host, under way.
pub struct HostCall {
    gate: Arc<Gate>,
    capability: &'static str,
    function: &'static str,
    /// None where no journal is kept, and once the call is in it.
    entered: Option<Instant>,
    observed: Option<ObservedCall>,
    ended: bool,
}

impl HostCall {
    /// Takes from a budget, or denies the call.
    ///
    /// # Errors
    /// The budget ran out.
    pub fn charge(&self, name: BudgetName, amount: u64) -> Result<(), Denied> {
        Ok(self.gate.meter.charge(name, amount)?)
    }

    /// Takes from several budgets, or from none and denies the call.
    ///
    /// # Errors
    /// One of the budgets ran out.
    pub fn charge_all(&self, charges: &[(BudgetName, u64)]) -> Result<(), Denied> {
        Ok(self.gate.meter.charge_all(charges)?)
    }

    /// Bills bytes that the host copies, hashes or parses for this call: a unit of fuel each.
    pub fn moves(&self, bytes: usize) -> &Self {
        self.gate.meter.owe_fuel(bytes as u64);
        self
    }

    /// Bills bytes of JSON that the host parses for this call: eight units of fuel each.
    pub fn parses(&self, bytes: usize) -> &Self {
        self.moves(bytes.saturating_mul(8))
    }

    /// The gate that this call went through.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Shows the call to the trace under this name: its inputs now, its result at [`HostCall::end_with`].
    pub fn observe(&mut self, operation: &str, inputs: impl FnOnce() -> Value) {
        if let Some(observer) = &self.gate.observer {
            self.observed = observer.started(operation, inputs());
        }
    }

    /// Waits for the backend, as [`Gate::race`].
    ///
    /// # Errors
    /// The backend's own error, or the denial that says why it was given up.
    pub async fn race<T, E: From<Denied>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.gate.race(work).await
    }

    /// Ends a call that has nothing to show but that it was made, or why it was denied. Gives the result on.
    pub fn end<T, E: std::fmt::Display>(self, result: Result<T, E>) -> Result<T, E> {
        self.end_with(&result, |_| Value::Null);
        result
    }

    /// Ends the call: its result goes to the trace, if it was observed, and to the journal, if one is
    /// kept. `view` makes the JSON of a good result; it runs only where somebody looks.
    pub fn end_with<T, E: std::fmt::Display>(self, result: &Result<T, E>, view: impl FnOnce(&T) -> Value) {
        self.show(|| result.as_ref().map(view).map_err(ToString::to_string));
    }

    /// Ends a call that cannot fail. Gives the answer on; `view` is as in [`HostCall::end_with`].
    pub fn answer<T>(self, answer: T, view: impl FnOnce(&T) -> Value) -> T {
        self.show(|| Ok(view(&answer)));
        answer
    }

    /// The guest has its handle, and goes on: that is what the journal keeps of this call. What comes of
    /// the work shows in the trace, and in the journal where the guest asks the handle for it.
    pub fn goes_on(&mut self) {
        self.write_journal(Ok(Value::Null));
    }

    fn show(mut self, result: impl FnOnce() -> Result<Value, String>) {
        self.ended = true;
        if self.observed.is_some() || self.entered.is_some() {
            self.tell(result());
        }
    }

    fn tell(&mut self, result: Result<Value, String>) {
        if let (Some(observer), Some(call)) = (&self.gate.observer, self.observed.take()) {
            if self.entered.is_none() {
                return observer.ended(call, result);
            }
            observer.ended(call, result.clone());
        }
        self.write_journal(result);
    }

    fn write_journal(&mut self, result: Result<Value, String>) {
        let (Some(journal), Some(entered)) = (&self.gate.journal, self.entered.take()) else { return };
        journal.push(JournalEntry {
            sequence: 0,
            capability: self.capability,
            function: self.function,
            elapsed_us: u64::try_from(entered.elapsed().as_micros()).unwrap_or(u64::MAX),
            result,
        });
    }
}

impl Drop for HostCall {
    /// A call that was given up on the way, or whose backend panicked, still ends in the trace and in the
    /// journal. What the panic said is for the operator.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let why = if std::thread::panicking() { HOST_FAILED.to_owned() } else { Denied::Cancelled.to_string() };
        self.tell(Err(why));
    }
}

#[cfg(test)]
mod tests;
