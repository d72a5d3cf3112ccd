//! Requests under way: the handles that a guest holds while models think.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::context::{Asking, Failure};
use super::{Delta, LlmError, Response};
use crate::{BudgetName, Denied, HostError, Meter};

/// A request under way. Dropping it cancels the request.
pub struct PendingAnswer {
    slot: Arc<Slot>,
    _task: AbortOnDropHandle<()>,
    _open: OpenRequest,
}

/// Where the answer of a request arrives.
#[derive(Default)]
struct Slot {
    /// The inner error is a panic of the backend.
    answer: Mutex<Option<Result<Result<Response, Failure>, HostError>>>,
    /// "Cancelled" once the answer is there.
    ready: CancellationToken,
}

impl PendingAnswer {
    /// Sends the request; it goes on whether or not the guest waits.
    pub(super) fn send(asking: Asking, open: OpenRequest, tasks: &Tasks) -> Self {
        let slot = Arc::<Slot>::default();
        let filled = Arc::clone(&slot);
        let stop = tasks.stop.clone();
        let task = tasks.tracker.spawn(async move {
            let asked = AssertUnwindSafe(asking.answer()).catch_unwind();
            let Some(answer) = stop.run_until_cancelled(asked).await else { return };
            let answer = answer.map_err(|_panic| HostError::new("the host failed while it asked a language model"));
            *filled.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            filled.ready.cancel();
        });
        PendingAnswer { slot, _task: AbortOnDropHandle::new(task), _open: open }
    }

    /// Is cancelled once the answer is there.
    pub(super) fn ready(&self) -> &CancellationToken {
        &self.slot.ready
    }

    /// The answer, once.
    pub(super) fn take(&self) -> Result<Option<Result<Response, Failure>>, HostError> {
        self.slot.answer.lock().unwrap_or_else(PoisonError::into_inner).take().transpose()
    }
}

/// An answer being written. Dropping it cancels the request.
pub struct Completion {
    deltas: BoxStream<'static, Result<Delta, LlmError>>,
    /// None once the answer ended.
    asking: Option<Asking>,
    _open: OpenRequest,
}

impl Completion {
    /// Sends the request.
    pub(super) fn send(mut asking: Asking, open: OpenRequest) -> Self {
        let request = std::mem::take(&mut asking.request);
        let deltas = Arc::clone(&asking.router).stream(request);
        Completion { deltas, asking: Some(asking), _open: open }
    }

    /// What comes next; the end settles the request.
    pub(super) async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        let asking = self.asking.take()?;
        let next = self.deltas.next().map(|next| match next {
            Some(delta) => delta.map_err(Failure::Llm),
            None => Err(LlmError::Unavailable("the answer broke off".to_owned()).into()),
        });
        match asking.call.race(next).await {
            Ok(Delta::Done(response)) => Some(asking.settle(Ok(response)).map(Delta::Done)),
            Ok(delta) => {
                self.asking = Some(asking);
                Some(Ok(delta))
            }
            Err(failure) => Some(asking.settle(Err(failure)).map(Delta::Done)),
        }
    }
}

/// The requests of one execution that are under way in tasks of their own.
#[derive(Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Stops them all, and waits until they have given back what they took.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A place among the requests that may be under way at once.
pub(super) struct OpenRequest(Arc<Meter>);

impl OpenRequest {
    pub(super) fn take(meter: &Arc<Meter>) -> Result<Self, Denied> {
        meter.charge(BudgetName::LlmRequestsOpen, 1)?;
        Ok(OpenRequest(Arc::clone(meter)))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.release(BudgetName::LlmRequestsOpen, 1);
    }
}
