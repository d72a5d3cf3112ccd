//! What the guest sees of `llm`. Failures are values; a handle that is not the guest's traps, and so does
//! a request that is not well formed enough to be lifted.

use std::collections::HashSet;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{Resource, ResourceTable};

use super::bindings::llm as guest;
use super::context::Failure;
use super::pending::OpenRequest;
use super::{Completion, Delta, LlmContext, PendingAnswer, Response};
use crate::bindings::types::Denied as GuestDenied;
use crate::state::handles_exhausted;
use crate::{BudgetName, Denied, Gate, View};

type Answer<T> = wasmtime::Result<Result<T, guest::Error>>;

/// The guest's handle, before anything is sent: what is denied was not sent.
fn push<T: Send + 'static>(
    table: &mut ResourceTable,
    gate: &Gate,
    entry: impl FnOnce(OpenRequest) -> T,
) -> Result<Resource<T>, Denied> {
    let open = OpenRequest::take(gate.meter())?;
    table.push(entry(open)).map_err(|_full| handles_exhausted(gate, table).into())
}

fn answer<T, G: From<T>>(result: Result<T, Failure>) -> Answer<G> {
    Ok(result.map(G::from).map_err(Into::into))
}

/// Fuel for a request in a list to wait for.
const WAIT_FUEL: usize = 500;

/// A longer list can only name requests more than once, or ones whose answers were fetched.
fn check_length(gate: &Gate, length: usize) -> Result<(), Denied> {
    let limit = |name| usize::try_from(gate.meter().limit(name)).unwrap_or(usize::MAX);
    let most = limit(BudgetName::LlmRequestsOpen).min(limit(BudgetName::Handles));
    if length <= most {
        return Ok(());
    }
    Err(Denied::Invalid(format!("the list has {length} requests; {most} may be open at once (`llm_requests_open`)")))
}

/// Waits for the first of these answers, and gives the positions of all that are there.
async fn ready_within(requests: &[(u32, &CancellationToken)], timeout_ms: Option<u64>) -> Result<Vec<u32>, Denied> {
    let mut named = HashSet::new();
    let once = requests.iter().filter(|(handle, _)| named.insert(*handle));
    let waiting: Vec<_> = once.map(|(_, ready)| Box::pin(ready.cancelled())).collect();
    if !waiting.is_empty() {
        let any = select_all(waiting).map(|_| ());
        match timeout_ms {
            Some(timeout_ms) => {
                // Running out of time is an answer, not a failure.
                let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), any).await;
            }
            None => any.await,
        }
    }
    Ok((0u32..).zip(requests).filter(|(_, (_, ready))| ready.is_cancelled()).map(|(at, _)| at).collect())
}

impl guest::Host for View<'_, LlmContext> {
    /// The guest waits; it sees the answer, or why there is none.
    async fn complete(&mut self, request: guest::Request) -> Answer<guest::Response> {
        let (context, _, gate) = self.parts()?;
        match context.ask(gate, "complete", request.into(), || Ok(())) {
            Ok((asking, ())) => answer(asking.answer().await),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// The guest sees `exhausted` once `llm_requests_open` or `handles` ran out.
    fn submit(&mut self, request: guest::Request) -> Answer<Resource<PendingAnswer>> {
        let (context, table, gate) = self.parts()?;
        match context.ask(gate, "submit", request.into(), || push(table, gate, PendingAnswer::new)) {
            Ok((mut asking, pending)) => {
                asking.call.goes_on();
                table.get_mut(&pending)?.send(asking, &context.under_way);
                Ok(Ok(pending))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// The guest waits; it sees the positions of the requests that are ready, or `invalid` for a list that is
    /// longer than the requests that may be open. Each request in the list costs fuel.
    async fn wait(
        &mut self,
        requests: Vec<Resource<PendingAnswer>>,
        timeout_ms: Option<u64>,
    ) -> wasmtime::Result<Result<Vec<u32>, GuestDenied>> {
        let (_, table, gate) = self.parts()?;
        let call = gate.enter_granted("llm", "wait")?;
        call.moves(requests.len().saturating_mul(WAIT_FUEL));
        if let Err(denied) = check_length(gate, requests.len()) {
            return Ok(call.end(Err(denied)).map_err(Into::into));
        }
        let listed = requests.iter().map(|request| Ok((request.rep(), table.get(request)?.ready())));
        let listed = listed.collect::<wasmtime::Result<Vec<_>>>()?;
        let result = call.race(ready_within(&listed, timeout_ms)).await;
        call.end_with(&result, |ready| json!(ready));
        Ok(result.map_err(Into::into))
    }

    /// The guest sees `exhausted` once `llm_requests_open` or `handles` ran out.
    fn start_stream(&mut self, request: guest::Request) -> Answer<Resource<Completion>> {
        let (context, table, gate) = self.parts()?;
        match context.ask(gate, "start-stream", request.into(), || push(table, gate, Completion::new)) {
            Ok((mut asking, completion)) => {
                asking.call.goes_on();
                table.get_mut(&completion)?.send(asking, &mut context.under_way);
                Ok(Ok(completion))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// The guest waits; it sees one vector an input, or why there is none.
    async fn embed(&mut self, model: Option<String>, inputs: Vec<String>) -> Answer<Vec<Vec<f32>>> {
        let (context, _, gate) = self.parts()?;
        answer(context.embed(gate, model, inputs).await)
    }
}

impl guest::HostPending for View<'_, LlmContext> {
    /// The guest sees the answer once.
    fn get(
        &mut self,
        pending: Resource<PendingAnswer>,
    ) -> wasmtime::Result<Option<Result<guest::Response, guest::Error>>> {
        let (_, table, gate) = self.parts()?;
        let pending = table.get_mut(&pending)?;
        let call = gate.enter_granted("llm", "get")?;
        match pending.take() {
            Ok(None) => Ok(call.answer(None, |_| Value::Null)),
            Ok(Some(result)) => {
                call.end_with(&result, Response::trace_view);
                Ok(Some(result.map(Into::into).map_err(Into::into)))
            }
            Err(error) => Ok(call.end(Err(error))?),
        }
    }

    fn drop(&mut self, pending: Resource<PendingAnswer>) -> wasmtime::Result<()> {
        self.table().delete(pending)?;
        Ok(())
    }
}

impl guest::HostCompletion for View<'_, LlmContext> {
    /// The guest waits; it sees the next piece, the end, or why the answer broke off.
    async fn next(
        &mut self,
        completion: Resource<Completion>,
    ) -> wasmtime::Result<Option<Result<guest::Delta, guest::Error>>> {
        let (_, table, gate) = self.parts()?;
        let completion = table.get_mut(&completion)?;
        let call = gate.enter_granted("llm", "next")?;
        let Some(result) = completion.next().await else { return Ok(call.answer(None, |_| Value::Null)) };
        if let Ok(delta @ (Delta::Text(_) | Delta::ToolCall(_))) = &result {
            call.moves(delta.bytes());
        }
        call.end_with(&result, Delta::trace_view);
        Ok(Some(result.map(Into::into).map_err(Into::into)))
    }

    fn drop(&mut self, completion: Resource<Completion>) -> wasmtime::Result<()> {
        self.table().delete(completion)?;
        Ok(())
    }
}
