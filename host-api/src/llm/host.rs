//! What the guest sees of `llm`. Failures are values; a handle that is not the guest's traps, and so does
//! a request that is not well formed enough to be lifted.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use wasmtime::component::{Resource, ResourceTable};

use super::bindings::llm as guest;
use super::context::Failure;
use super::pending::{OpenRequest, Tasks};
use super::{Completion, LlmContext, PendingAnswer};
use crate::bindings::types::Denied as GuestDenied;
use crate::state::handles_exhausted;
use crate::{Denied, Gate, View};

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
            Ok((asking, pending)) => {
                table.get_mut(&pending)?.send(asking, context.tasks.get_or_init(Tasks::default));
                Ok(Ok(pending))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// The guest waits; it sees the positions of the requests that are ready. Each request in the list
    /// costs fuel.
    async fn wait(
        &mut self,
        requests: Vec<Resource<PendingAnswer>>,
        timeout_ms: Option<u64>,
    ) -> wasmtime::Result<Result<Vec<u32>, GuestDenied>> {
        let (_, table, gate) = self.parts()?;
        gate.meter().owe_fuel(requests.len() as u64 * 500);
        let tokens = requests
            .iter()
            .map(|request| Ok(table.get(request)?.ready().clone()))
            .collect::<wasmtime::Result<Vec<_>>>()?;
        let waited = async {
            if tokens.is_empty() {
                return Ok(());
            }
            let any = select_all(tokens.iter().map(|token| Box::pin(token.cancelled()))).map(|_| ());
            match timeout_ms {
                Some(timeout_ms) => {
                    // Running out of time is an answer, not a failure.
                    let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), any).await;
                }
                None => any.await,
            }
            Ok::<(), Denied>(())
        };
        if let Err(denied) = gate.race(waited).await {
            return Ok(Err(denied.into()));
        }
        let ready = (0u32..).zip(&tokens).filter(|(_, token)| token.is_cancelled()).map(|(at, _)| at).collect();
        Ok(Ok(ready))
    }

    /// The guest sees `exhausted` once `llm_requests_open` or `handles` ran out.
    fn start_stream(&mut self, request: guest::Request) -> Answer<Resource<Completion>> {
        let (context, table, gate) = self.parts()?;
        match context.ask(gate, "start-stream", request.into(), || push(table, gate, Completion::new)) {
            Ok((asking, completion)) => {
                table.get_mut(&completion)?.send(asking);
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
        let taken = self.table().get_mut(&pending)?.take()?;
        Ok(taken.map(|result| result.map(Into::into).map_err(Into::into)))
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
        let next = self.table().get_mut(&completion)?.next().await;
        Ok(next.map(|result| result.map(Into::into).map_err(Into::into)))
    }

    fn drop(&mut self, completion: Resource<Completion>) -> wasmtime::Result<()> {
        self.table().delete(completion)?;
        Ok(())
    }
}
