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
    /// None before the request is sent.
    _task: Option<AbortOnDropHandle<()>>,
    /// None once the answer was fetched.
    open: Option<OpenRequest>,
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
    pub(super) fn new(open: OpenRequest) -> Self {
        PendingAnswer { slot: Arc::default(), _task: None, open: Some(open) }
    }

    /// Sends the request; it goes on whether or not the guest waits.
    pub(super) fn send(&mut self, asking: Asking, tasks: &Tasks) {
        let filled = Arc::clone(&self.slot);
        let stop = tasks.stop.clone();
        let task = tasks.tracker.spawn(async move {
            let asked = AssertUnwindSafe(asking.answer()).catch_unwind();
            let Some(answer) = stop.run_until_cancelled(asked).await else { return };
            let answer = answer.map_err(|_panic| HostError::new("the host failed while it asked a language model"));
            *filled.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            filled.ready.cancel();
        });
        self._task = Some(AbortOnDropHandle::new(task));
    }

    /// Is cancelled once the answer is there.
    pub(super) fn ready(&self) -> &CancellationToken {
        &self.slot.ready
    }

    /// The answer, once.
    pub(super) fn take(&mut self) -> Result<Option<Result<Response, Failure>>, HostError> {
        let answer = self.slot.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if answer.is_some() {
            self.open = None;
        }
        answer.transpose()
    }
}

/// An answer being written. Dropping it cancels the request.
pub struct Completion {
    /// None before the request is sent, and once the answer ended.
    writing: Option<Writing>,
    /// None once the answer ended.
    open: Option<OpenRequest>,
}

struct Writing {
    deltas: BoxStream<'static, Result<Delta, LlmError>>,
    asking: Asking,
}

impl Completion {
    pub(super) fn new(open: OpenRequest) -> Self {
        Completion { writing: None, open: Some(open) }
    }

    /// Sends the request.
    pub(super) fn send(&mut self, mut asking: Asking) {
        let request = std::mem::take(&mut asking.request);
        let deltas = Arc::clone(&asking.router).stream(request);
        self.writing = Some(Writing { deltas, asking });
    }

    /// What comes next; the end settles the request.
    pub(super) async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        // If the backend panics, the answer has ended, and gives back what it took.
        let (mut writing, open) = (self.writing.take()?, self.open.take());
        let next = writing.deltas.next().map(|next| match next {
            Some(delta) => delta.map_err(Failure::Llm),
            None => Err(LlmError::Unavailable("the answer broke off".to_owned()).into()),
        });
        match writing.asking.call.race(next).await {
            Ok(Delta::Done(response)) => Some(writing.asking.settle(Ok(response)).map(Delta::Done)),
            Ok(delta) => {
                (self.writing, self.open) = (Some(writing), open);
                Some(Ok(delta))
            }
            Err(failure) => Some(writing.asking.settle(Err(failure)).map(Delta::Done)),
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
