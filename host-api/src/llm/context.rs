//! What one execution owns of `llm`: its router, and what it used.

use std::future::ready;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use super::pending::Tasks;
use super::{LlmError, Request, Response, Router};
use crate::{BudgetName, CapabilityContext, Denied, Ending, Gate, HostCall, HostError, Meter};

/// Output tokens that are reserved for a request that does not say how many it wants at most.
const OUTPUT_TOKENS_RESERVED: u64 = 1_024;

/// The router of one execution, and what went through it.
pub struct LlmContext {
    router: Arc<dyn Router>,
    tally: Arc<Mutex<Tally>>,
    /// Made with the first request that is not waited for.
    pub(super) tasks: OnceLock<Tasks>,
}

/// What an execution used, for its record. A request that was given up has neither failed nor an answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Tally {
    requests: u64,
    failed: u64,
    cached: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_microusd: u64,
}

/// Why a guest gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Llm(#[from] LlmError),
}

impl LlmContext {
    pub(super) fn new(router: Arc<dyn Router>) -> Self {
        LlmContext { router, tally: Arc::default(), tasks: OnceLock::new() }
    }

    /// Passes the gate with a request: granted, sensible, within budget; from here on it is in the trace.
    /// `place` makes what the guest holds of it.
    pub(super) fn ask<P>(
        &self,
        gate: &Arc<Gate>,
        function: &'static str,
        mut request: Request,
        place: impl FnOnce() -> Result<P, Denied>,
    ) -> Result<(Asking, P), Failure> {
        let mut call = gate.enter("llm", function)?;
        let bytes = request.bytes();
        call.moves(usize::try_from(bytes).unwrap_or(usize::MAX));
        let admit = || -> Result<_, Failure> {
            request.check()?;
            let reservation = Reservation::for_request(gate.meter(), &mut request)?;
            Ok((reservation, self.count(&call, bytes, place)?))
        };
        let (reservation, place) = match admit() {
            Ok(admitted) => admitted,
            Err(failure) => return call.end(Err(failure)),
        };
        // However it was sent, it is the same to who reads the trace.
        call.observe("llm.complete", || request.trace_view());
        let (router, tally) = (Arc::clone(&self.router), Arc::clone(&self.tally));
        Ok((Asking { call, reservation, router, tally, request }, place))
    }

    /// Counts a request that nothing else denies: one that is denied costs nothing.
    fn count<P>(&self, call: &HostCall, bytes: u64, place: impl FnOnce() -> Result<P, Denied>) -> Result<P, Denied> {
        let counted = [(BudgetName::LlmRequests, 1), (BudgetName::LlmRequestBytes, bytes)];
        call.charge_all(&counted)?;
        let place = place().inspect_err(|_| call.gate().meter().release_all(&counted))?;
        lock(&self.tally).requests += 1;
        Ok(place)
    }

    /// One vector an input.
    pub(super) async fn embed(
        &self,
        gate: &Arc<Gate>,
        model: Option<String>,
        inputs: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, Failure> {
        let mut call = gate.enter("llm", "embed")?;
        let bytes: usize = inputs.iter().map(String::len).sum();
        call.moves(bytes);
        let admit = || -> Result<_, Denied> {
            let reservation = Reservation::take(gate.meter(), (bytes as u64).div_ceil(4))?;
            self.count(&call, bytes as u64, || Ok(reservation))
        };
        let reservation = match admit() {
            Ok(reservation) => reservation,
            Err(denied) => return call.end(Err(denied.into())),
        };
        call.observe("llm.embed", || serde_json::json!({ "model": model, "inputs": inputs.len(), "bytes": bytes }));
        let answered = Arc::clone(&self.router).embed(model, inputs).map(|result| result.map_err(Failure::Llm));
        let result = call.race(answered).await;
        match &result {
            Ok(_) => reservation.keep(),
            Err(_) => lock(&self.tally).failed += 1,
        }
        call.end_with(&result, |vectors| serde_json::json!({ "vectors": vectors.len() }));
        result
    }
}

impl CapabilityContext for LlmContext {
    /// Stops what is still under way, so that its budget is given back and its call ended before the record.
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        match self.tasks.get() {
            Some(tasks) => tasks.end().map(Ok).boxed(),
            None => ready(Ok(())).boxed(),
        }
    }

    fn usage(&self) -> Option<serde_json::Value> {
        serde_json::to_value(*lock(&self.tally)).ok()
    }
}

impl Tally {
    /// The end of a request. What a provider says of its usage may be any number.
    fn add(&mut self, result: &Result<Response, Failure>) {
        let Ok(Response { usage, cached, .. }) = result else {
            self.failed += 1;
            return;
        };
        self.cached += u64::from(*cached);
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(usage.cost_microusd.unwrap_or(0));
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that passed the gate.
pub(super) struct Asking {
    pub(super) call: HostCall,
    reservation: Reservation,
    pub(super) router: Arc<dyn Router>,
    tally: Arc<Mutex<Tally>>,
    pub(super) request: Request,
}

impl Asking {
    /// Waits for the whole answer.
    pub(super) async fn answer(mut self) -> Result<Response, Failure> {
        let request = std::mem::take(&mut self.request);
        let answered = Arc::clone(&self.router).complete(request).map(|result| result.map_err(Failure::Llm));
        let result = self.call.race(answered).await;
        self.settle(result)
    }

    /// The end of a request: its budget is settled, its use counted, its call ended.
    pub(super) fn settle(self, result: Result<Response, Failure>) -> Result<Response, Failure> {
        if let Ok(response) = &result {
            self.reservation.settle(response);
        }
        lock(&self.tally).add(&result);
        self.call.end_with(&result, Response::trace_view);
        result
    }
}

/// Tokens that were taken before a request and are settled after it, so that requests under way at
/// once cannot spend the same ones. Dropped without an answer, it gives them all back.
struct Reservation {
    meter: Arc<Meter>,
    tokens: u64,
}

impl Reservation {
    /// Takes what the input will cost, by a conservative estimate, and the longest answer. Where less is
    /// left, the longest answer is what is left.
    fn for_request(meter: &Arc<Meter>, request: &mut Request) -> Result<Self, Denied> {
        let input = request.input_tokens_estimate();
        let mut output = request.max_tokens.map_or(OUTPUT_TOKENS_RESERVED, u64::from);
        if let Some(left) = meter.left(BudgetName::LlmTokens)
            && left > input
            && left - input < output
        {
            output = left - input;
            request.max_tokens = Some(u32::try_from(output).unwrap_or(u32::MAX));
        }
        Reservation::take(meter, input.saturating_add(output))
    }

    /// Takes these tokens, unless the money is spent.
    fn take(meter: &Arc<Meter>, tokens: u64) -> Result<Self, Denied> {
        let spent = meter.used(BudgetName::LlmCostMicrousd);
        if spent >= meter.budget().limit(BudgetName::LlmCostMicrousd) {
            return Err(meter.refuse(BudgetName::LlmCostMicrousd, spent).into());
        }
        meter.charge(BudgetName::LlmTokens, tokens)?;
        Ok(Reservation { meter: Arc::clone(meter), tokens })
    }

    /// The tokens are used, as many as were taken.
    fn keep(mut self) {
        self.tokens = 0;
    }

    fn settle(mut self, response: &Response) {
        let used = response.usage.input_tokens.saturating_add(response.usage.output_tokens);
        self.meter.overdraw(BudgetName::LlmTokens, used.saturating_sub(self.tokens));
        self.tokens = self.tokens.saturating_sub(used);
        self.meter.overdraw(BudgetName::LlmCostMicrousd, response.usage.cost_microusd.unwrap_or(0));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meter.release(BudgetName::LlmTokens, self.tokens);
    }
}
