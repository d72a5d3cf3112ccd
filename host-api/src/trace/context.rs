//! What one execution owns of `trace`: the calls that are open, and what they may still cost.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::charge::{Charges, ENTRY_BYTES};
use super::{CallEnd, CallId, CallKind, CallStart, CallStatus, Json, Reference, TraceBackend, TraceError, TraceSink};
use crate::{CallObserver, Denied, Meter, ObservedCall, Outcome, Scope};

/// Longest operation, attribute key and kind of feedback, in bytes.
const LABEL_MAX: usize = 256;

/// The trace of one execution. The guest's host functions, the gate and the end of the execution share it.
///
/// The current call is the one started last of the guest's calls that are still open, else the root call.
/// What does not fit the budgets is denied to the guest where the guest asked for it; what the host records
/// by itself is left out and counted in the root call's attributes `dropped_calls` and `dropped_bytes`.
pub struct Calls {
    pub(super) scope: Arc<Scope>,
    pub(super) sink: Arc<dyn TraceSink>,
    pub(super) charges: Charges,
    root: CallId,
    opened: Instant,
    opened_at: SystemTime,
    open: Mutex<OpenCalls>,
}

/// The lock is also held while the sink is told, so that it hears of things in order. Sinks do not block.
#[derive(Default)]
struct OpenCalls {
    /// In the order in which they were started; the root call is not among them.
    calls: Vec<OpenCall>,
    started: u64,
    finished: bool,
}

#[derive(Clone, Copy)]
struct OpenCall {
    id: CallId,
    kind: CallKind,
}

/// The inputs of the root call.
#[derive(Serialize)]
struct Inputs<'a> {
    input_bytes: u64,
    workload: &'a str,
}

impl OpenCalls {
    /// Calls of the host never become current: requests that are under way at once are siblings.
    fn current(&self) -> Option<CallId> {
        self.calls.iter().rev().find(|call| call.kind == CallKind::Guest).map(|call| call.id)
    }

    fn position(&self, call: CallId) -> Option<usize> {
        self.calls.iter().rposition(|open| open.id == call)
    }
}

impl Calls {
    /// Opens the trace of an execution with its root call. `input_bytes` is the size of the execution's input.
    ///
    /// # Errors
    /// The backend cannot keep it.
    pub fn open(
        backend: &dyn TraceBackend,
        scope: &Arc<Scope>,
        meter: &Arc<Meter>,
        input_bytes: u64,
    ) -> Result<Arc<Self>, TraceError> {
        let calls = Calls {
            scope: Arc::clone(scope),
            sink: backend.open(scope)?,
            charges: Charges::new(Arc::clone(meter)),
            root: CallId::root(scope.execution),
            opened: Instant::now(),
            opened_at: SystemTime::now(),
            open: Mutex::default(),
        };
        calls.sink.start(CallStart {
            id: calls.root,
            parent: None,
            kind: CallKind::Execution,
            operation: Cow::Borrowed("execution"),
            inputs: Json::from_sorted(&Inputs { input_bytes, workload: &scope.workload }),
            started_at: calls.opened_at,
        });
        Ok(Arc::new(calls))
    }

    /// Starts a call of the guest's as a child of the current one. `inputs` is JSON or any other text.
    ///
    /// # Errors
    /// The operation is empty or too long, a budget ran out, or the execution has ended.
    pub fn start(&self, operation: &str, inputs: &str) -> Result<CallId, Denied> {
        self.start_guest_call(None, operation, inputs)
    }

    /// Starts a child of this call, whichever call is the current one.
    ///
    /// # Errors
    /// Those of [`Calls::start`], or `parent` has ended.
    pub fn child(&self, parent: CallId, operation: &str, inputs: &str) -> Result<CallId, Denied> {
        self.check_open(parent)?;
        self.start_guest_call(Some(parent), operation, inputs)
    }

    fn start_guest_call(&self, parent: Option<CallId>, operation: &str, inputs: &str) -> Result<CallId, Denied> {
        check_label("operation", operation)?;
        let inputs = self.charges.call(operation, inputs)?;
        self.begin(parent, CallKind::Guest, operation, inputs).ok_or_else(execution_ended)
    }

    fn begin(&self, parent: Option<CallId>, kind: CallKind, operation: &str, inputs: Json) -> Option<CallId> {
        let mut open = self.lock();
        if open.finished {
            return None;
        }
        open.started += 1;
        let id = self.root.nth(open.started);
        let parent = Some(parent.or_else(|| open.current()).unwrap_or(self.root));
        open.calls.push(OpenCall { id, kind });
        let operation = Cow::Owned(operation.to_owned());
        self.sink.start(CallStart { id, parent, kind, operation, inputs, started_at: self.now() });
        Some(id)
    }

    /// Says something more of an open call. `value` is JSON or any other text.
    ///
    /// # Errors
    /// The call has ended, the key is empty or too long, or a budget ran out.
    pub fn set_attribute(&self, call: CallId, key: &str, value: &str) -> Result<(), Denied> {
        check_label("key", key)?;
        self.check_open(call)?;
        let value = self.charges.json(key.len() + ENTRY_BYTES, value)?;
        let open = self.lock();
        open.position(call).ok_or_else(call_ended)?;
        self.sink.attribute(call, key.to_owned(), value);
        Ok(())
    }

    /// Ends a call of the guest's, with its output or with what went wrong. Where a budget runs out the call
    /// ends all the same, without its output.
    ///
    /// # Errors
    /// The call has ended already, or a budget ran out.
    pub fn finish_call(&self, call: CallId, output: Result<&str, &str>) -> Result<(), Denied> {
        self.check_open(call)?;
        let charged = match output {
            Ok(output) => self.charges.json(0, output).map(|output| (Some(output), None)),
            Err(error) => self.charges.bytes(error.len()).map(|()| (None, Some(error.to_owned()))),
        };
        let status = if output.is_ok() { CallStatus::Ok } else { CallStatus::Error };
        let (denied, (output, error)) = match charged {
            Ok(charged) => (None, charged),
            Err(denied) => (Some(denied), (None, None)),
        };
        if !self.end(call, status, output, error, Vec::new()) {
            return Err(call_ended());
        }
        denied.map_or(Ok(()), Err)
    }

    /// Ends a call of the guest's that nobody finished. It does nothing to one that has ended.
    pub fn abandon(&self, call: CallId) {
        self.end(call, CallStatus::Abandoned, None, None, Vec::new());
    }

    /// The text that names this call in [`Calls::feedback`].
    pub fn reference(&self, call: CallId) -> String {
        Reference::call(&self.scope, call).to_string()
    }

    /// A call to the host begins: a child of the current call that never becomes the current call itself.
    /// `None` if the budgets have no room for it. It then goes on unrecorded, and no budget counts as
    /// exceeded because of it.
    pub fn host_call_started(&self, operation: &str, inputs: Value) -> Option<CallId> {
        let inputs = self.charges.host_call(operation, &inputs)?;
        self.begin(None, CallKind::Host, operation, inputs)
    }

    /// A call to the host ended. Of a result or attribute that does not fit only the size is counted.
    pub fn host_call_ended(&self, call: CallId, result: Result<Value, String>, attributes: Vec<(String, Json)>) {
        let attributes = attributes
            .into_iter()
            .filter_map(|(key, value)| {
                let size = key.len() + value.as_str().len() + ENTRY_BYTES;
                self.charges.fits(size, (key, value))
            })
            .collect();
        let (status, output, error) = match result {
            Ok(value) => (CallStatus::Ok, self.fitting(Json::from_value(&value)), None),
            Err(error) => (CallStatus::Error, None, self.charges.fits(error.len(), error)),
        };
        self.end(call, status, output, error, attributes);
    }

    /// Ends the trace: the calls that are open, the one started last first, then the root call with the
    /// execution's output or error. Nothing is recorded after that; a second time does nothing.
    pub fn finish(&self, outcome: &Outcome, output: Option<Json>, error: Option<String>) {
        let output = output.and_then(|output| self.fitting(output));
        let error = error.and_then(|error| self.charges.fits(error.len(), error));
        let mut open = self.lock();
        if std::mem::replace(&mut open.finished, true) {
            return;
        }
        let exhausted = match outcome {
            Outcome::BudgetExceeded(exhausted) => Some(exhausted.to_string()),
            _ => None,
        };
        let ended_at = self.now();
        let end = |id, status, output, error, attributes| {
            self.sink.end(CallEnd { id, ended_at, status, output, error, attributes });
        };
        for call in std::mem::take(&mut open.calls).into_iter().rev() {
            end(call.id, CallStatus::left_open(outcome), None, exhausted.clone(), Vec::new());
        }
        let dropped = self.charges.dropped().collect();
        end(self.root, CallStatus::of_root(outcome), output, error.or(exhausted), dropped);
    }

    /// Waits until the backend has all that was recorded.
    ///
    /// # Errors
    /// Some of it is lost.
    pub fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>> {
        self.sink.flush()
    }

    /// Ends a call if it is open, and says whether it was.
    fn end(
        &self,
        call: CallId,
        status: CallStatus,
        output: Option<Json>,
        error: Option<String>,
        attributes: Vec<(String, Json)>,
    ) -> bool {
        let mut open = self.lock();
        let Some(position) = open.position(call) else { return false };
        open.calls.remove(position);
        self.sink.end(CallEnd { id: call, ended_at: self.now(), status, output, error, attributes });
        true
    }

    fn fitting(&self, value: Json) -> Option<Json> {
        self.charges.fits(value.as_str().len(), value)
    }

    fn check_open(&self, call: CallId) -> Result<(), Denied> {
        let open = self.lock();
        match open.position(call) {
            Some(_) => Ok(()),
            None if open.finished => Err(execution_ended()),
            None => Err(call_ended()),
        }
    }

    /// The wall clock may be set while an execution runs; its calls never end before they begin.
    fn now(&self) -> SystemTime {
        self.opened_at.checked_add(self.opened.elapsed()).unwrap_or(self.opened_at)
    }

    fn lock(&self) -> MutexGuard<'_, OpenCalls> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An execution whose end was never told failed in the host.
impl Drop for Calls {
    fn drop(&mut self) {
        self.finish(&Outcome::HostError, None, None);
    }
}

impl CallObserver for Calls {
    fn started(&self, operation: &str, inputs: Value) -> Option<ObservedCall> {
        self.host_call_started(operation, inputs).map(|call| ObservedCall(call.0))
    }

    fn ended(&self, call: ObservedCall, result: Result<Value, String>) {
        self.host_call_ended(CallId(call.0), result, Vec::new());
    }
}

pub(super) fn check_label(what: &str, text: &str) -> Result<(), Denied> {
    match text.len() {
        1..=LABEL_MAX => Ok(()),
        0 => Err(Denied::Invalid(format!("the {what} is empty"))),
        length => Err(Denied::Invalid(format!("the {what} has {length} bytes; {LABEL_MAX} are the most"))),
    }
}

fn call_ended() -> Denied {
    Denied::Invalid("the call has ended".to_owned())
}

fn execution_ended() -> Denied {
    Denied::Unavailable("the execution has ended".to_owned())
}

#[cfg(test)]
mod tests;
