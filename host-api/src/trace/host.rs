//! What the guest sees of `trace`. A call that is dropped without `finish` ends as abandoned.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};

use super::bindings::trace::{Host, HostCall as HostCallResource};
use super::{CallId, Calls, TraceContext};
use crate::bindings::types::Denied as GuestDenied;
use crate::state::handles_exhausted;
use crate::{Denied, Gate, View};

type Answer<T> = wasmtime::Result<Result<T, GuestDenied>>;

/// The guest's handle to a call of its own. The table drops it with the guest.
pub struct TraceCall {
    calls: Arc<Calls>,
    id: CallId,
}

impl Drop for TraceCall {
    fn drop(&mut self) {
        self.calls.abandon(self.id);
    }
}

fn push(table: &mut ResourceTable, gate: &Gate, call: TraceCall) -> Result<Resource<TraceCall>, Denied> {
    table.push(call).map_err(|_full| handles_exhausted(gate, table).into())
}

fn answer<T>(result: Result<T, Denied>) -> Answer<T> {
    Ok(result.map_err(Into::into))
}

impl Host for View<'_, TraceContext> {
    /// The guest sees `exhausted` once `trace_calls`, `trace_bytes` or `handles` ran out.
    fn start(&mut self, operation: String, inputs: String) -> Answer<Resource<TraceCall>> {
        let (context, table, gate) = self.parts()?;
        let calls = Arc::clone(&context.calls);
        answer(gate.enter("trace", "start").and_then(|call| {
            call.moves(operation.len()).parses(inputs.len());
            let started = calls.start(&operation, &inputs);
            call.end(started.and_then(|id| push(table, gate, TraceCall { calls, id })))
        }))
    }

    /// The guest sees the reference, or `invalid` for a name that is none.
    async fn publish(&mut self, name: String, value: String) -> Answer<String> {
        let (context, _, gate) = self.parts()?;
        let published = async {
            let call = gate.enter("trace", "publish")?;
            let result = call.moves(name.len()).parses(value.len()).race(context.calls.publish(&name, &value)).await;
            call.end_with(&result, |reference| reference.as_str().into());
            result
        };
        answer(published.await)
    }

    /// The guest sees the value, or `invalid` if this user has no such object.
    async fn resolve(&mut self, reference: String) -> Answer<String> {
        let (context, _, gate) = self.parts()?;
        let resolved = async {
            let call = gate.enter("trace", "resolve")?;
            let result: Result<String, Denied> = call.race(context.calls.resolve(&reference)).await;
            call.moves(reference.len() + result.as_ref().map_or(0, String::len));
            call.end_with(&result, |value| value.as_str().into());
            result
        };
        answer(resolved.await)
    }

    /// The guest sees `invalid` if this user has no such call or object.
    async fn feedback(&mut self, reference: String, kind: String, payload: String) -> Answer<()> {
        let (context, _, gate) = self.parts()?;
        let given = async {
            let call = gate.enter("trace", "feedback")?;
            call.moves(reference.len() + kind.len()).parses(payload.len());
            let result = call.race(context.calls.feedback(&reference, &kind, &payload)).await;
            call.end_with(&result, |()| ().into());
            result
        };
        answer(given.await)
    }
}

/// A handle that is not the guest's traps.
impl HostCallResource for View<'_, TraceContext> {
    /// As `start`; `invalid` if this call has ended.
    fn child(&mut self, call: Resource<TraceCall>, operation: String, inputs: String) -> Answer<Resource<TraceCall>> {
        let (context, table, gate) = self.parts()?;
        let parent = table.get(&call)?.id;
        let calls = Arc::clone(&context.calls);
        answer(gate.enter("trace", "child").and_then(|call| {
            call.moves(operation.len()).parses(inputs.len());
            let started = calls.child(parent, &operation, &inputs);
            call.end(started.and_then(|id| push(table, gate, TraceCall { calls, id })))
        }))
    }

    /// The guest sees `exhausted` once `trace_bytes` ran out, `invalid` if the call has ended.
    fn set_attribute(&mut self, call: Resource<TraceCall>, key: String, value: String) -> Answer<()> {
        let (context, table, gate) = self.parts()?;
        let id = table.get(&call)?.id;
        answer(gate.enter("trace", "set-attribute").and_then(|call| {
            call.moves(key.len()).parses(value.len());
            call.end(context.calls.set_attribute(id, &key, &value))
        }))
    }

    /// The guest sees `invalid` if the call has ended; without budget for the output the call ends without it.
    fn finish(&mut self, call: Resource<TraceCall>, output: Result<String, String>) -> Answer<()> {
        let (context, table, gate) = self.parts()?;
        let id = table.get(&call)?.id;
        answer(gate.enter("trace", "finish").and_then(|call| {
            let output = output.as_deref().map_err(String::as_str);
            call.parses(output.map_or_else(str::len, str::len));
            call.end(context.calls.finish_call(id, output))
        }))
    }

    /// Always the same text for the same call; needs no grant beyond that of the call.
    fn reference(&mut self, call: Resource<TraceCall>) -> wasmtime::Result<String> {
        let (context, table, gate) = self.parts()?;
        let id = table.get(&call)?.id;
        let call = gate.enter_granted("trace", "reference")?;
        Ok(call.answer(context.calls.reference(id), |reference| reference.as_str().into()))
    }

    fn drop(&mut self, call: Resource<TraceCall>) -> wasmtime::Result<()> {
        self.table().delete(call)?;
        Ok(())
    }
}
