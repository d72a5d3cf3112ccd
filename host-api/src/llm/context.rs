//! What one execution owns of `llm`: its router, what is under way, and what it used.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::backend::check_model;
use super::pending::UnderWay;
use super::spending::{Reservation, Spending};
use super::{Embeddings, LlmError, Request, Response, Router};
use crate::{BudgetName, CapabilityContext, Denied, Ending, Gate, HostCall, HostError};

/// Most inputs of one call of `embed`: what large providers take.
const EMBED_INPUTS_MAX: usize = 2_048;

/// The router of one execution, and what went through it.
pub struct LlmContext {
    router: Arc<dyn Router>,
    spending: Spending,
    pub(super) under_way: UnderWay,
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
        LlmContext { router, spending: Spending::default(), under_way: UnderWay::default() }
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
        // Counted first: nothing is looked at that is more than a request may be.
        let admitted = self.count(&call, bytes, || {
            call.parses(request.schema_bytes());
            request.check()?;
            let price = self.router.price(&request);
            Ok((self.spending.reserve(gate.meter(), &mut request, price)?, place()?))
        });
        let (reservation, place) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => return call.end(Err(failure)),
        };
        // However it was sent, it is the same to who reads the trace.
        call.observe("llm.complete", || request.trace_view());
        Ok((Asking { call, reservation, router: Arc::clone(&self.router), request }, place))
    }

    /// Counts a request, unless something denies it: one that is denied costs nothing but fuel.
    fn count<A>(&self, call: &HostCall, bytes: u64, admit: impl FnOnce() -> Result<A, Failure>) -> Result<A, Failure> {
        let counted = [(BudgetName::LlmRequests, 1), (BudgetName::LlmRequestBytes, bytes)];
        call.charge_all(&counted)?;
        let admitted = admit().inspect_err(|_| call.gate().meter().release_all(&counted))?;
        self.spending.lock().requests += 1;
        Ok(admitted)
    }

    /// One vector an input.
    pub(super) async fn embed(
        &self,
        gate: &Arc<Gate>,
        model: Option<String>,
        inputs: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, Failure> {
        let mut call = gate.enter("llm", "embed")?;
        let (bytes, tokens) = Request::embedding_size(&inputs);
        call.moves(usize::try_from(bytes).unwrap_or(usize::MAX));
        let admitted = self.count(&call, bytes, || {
            check_model(model.as_deref())?;
            if inputs.len() > EMBED_INPUTS_MAX {
                let why = format!("`inputs` has {} texts; {EMBED_INPUTS_MAX} are allowed in one call", inputs.len());
                return Err(Denied::Invalid(why).into());
            }
            let price = self.router.embedding_price(model.as_deref());
            Ok(self.spending.reserve_input(gate.meter(), tokens, price)?)
        });
        let mut reservation = match admitted {
            Ok(reservation) => reservation,
            Err(failure) => return call.end(Err(failure)),
        };
        call.observe("llm.embed", || serde_json::json!({ "model": model, "inputs": inputs.len(), "bytes": bytes }));
        reservation.sent();
        let answered = Arc::clone(&self.router).embed(model, inputs).map(|result| result.map_err(Failure::Llm));
        let result = call.race(answered).await;
        match &result {
            Ok(embeddings) => {
                let held = |vector: &Vec<f32>| size_of::<Vec<f32>>() + size_of_val(vector.as_slice());
                call.moves(embeddings.vectors.iter().map(held).sum());
                reservation.embedded(embeddings);
            }
            Err(failure) => {
                reservation.tried(&self.router.take_attempts_untold());
                reservation.failed(failure);
            }
        }
        bill_router(&call, &self.router);
        call.end_with(&result, Embeddings::trace_view);
        result.map(|embeddings| embeddings.vectors)
    }
}

impl CapabilityContext for LlmContext {
    /// Stops what is still under way, so that its budget is settled and its call ended before the record.
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        self.under_way.end().map(Ok).boxed()
    }

    fn usage(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&*self.spending.lock()).ok()
    }
}

/// The router works for this execution alone, so the guest pays for that work.
fn bill_router(call: &HostCall, router: &Arc<dyn Router>) {
    call.gate().meter().owe_fuel(router.take_fuel_owed());
}

/// A request that passed the gate.
pub(super) struct Asking {
    pub(super) call: HostCall,
    pub(super) reservation: Reservation,
    pub(super) router: Arc<dyn Router>,
    pub(super) request: Request,
}

impl Asking {
    /// Waits for the whole answer.
    pub(super) async fn answer(mut self) -> Result<Response, Failure> {
        let request = std::mem::take(&mut self.request);
        self.reservation.sent();
        let result = match self.router.repairs_max() {
            Some(repairs_max) => self.answer_in_schema(request, repairs_max).await,
            None => self.ask(request).await,
        };
        self.settle(result)
    }

    /// Asks the router once.
    pub(super) async fn ask(&self, request: Request) -> Result<Response, Failure> {
        let answered = Arc::clone(&self.router).complete(request).map(|result| result.map_err(Failure::Llm));
        self.call.race(answered).await
    }

    /// The end of a request: its budget is settled, its use counted, its call ended.
    pub(super) fn settle(self, result: Result<Response, Failure>) -> Result<Response, Failure> {
        let Asking { call, reservation, router, .. } = self;
        match &result {
            Ok(response) => {
                call.moves(usize::try_from(response.bytes()).unwrap_or(usize::MAX));
                reservation.answered(response);
            }
            Err(failure) => {
                reservation.tried(&router.take_attempts_untold());
                reservation.failed(failure);
            }
        }
        bill_router(&call, &router);
        call.end_with(&result, Response::trace_view);
        result
    }
}
