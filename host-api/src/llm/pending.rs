//! Requests under way: the handles that a guest holds while models think.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::context::{Asking, Failure};
use super::{Delta, LlmError, Request, Response};
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
    pub(super) fn send(&mut self, asking: Asking, under_way: &UnderWay) {
        let tasks = under_way.tasks.get_or_init(Tasks::default);
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
    /// None before the request is sent.
    writing: Option<Arc<Line>>,
    /// None once the answer ended.
    open: Option<OpenRequest>,
}

/// Where an answer comes from that is being written; it is cut at the end of the execution. None once the
/// answer ended, and while its next piece is waited for.
type Line = Mutex<Option<Writing>>;

struct Writing {
    source: Source,
    asking: Asking,
}

/// Where the next piece comes from.
enum Source {
    /// The router, as the model writes.
    Router(BoxStream<'static, Result<Delta, LlmError>>),
    /// An answer that the guest may see only once it is known to match: it comes in one piece.
    Checked(Request, u32),
    /// The end of that.
    Whole(Box<Response>),
}

impl Writing {
    async fn next(&mut self) -> Result<Delta, Failure> {
        match std::mem::replace(&mut self.source, Source::Router(stream::empty().boxed())) {
            Source::Router(mut deltas) => {
                let next = deltas.next().map(|next| match next {
                    Some(delta) => delta.map_err(Failure::Llm),
                    None => Err(Denied::Unavailable("the answer broke off".to_owned()).into()),
                });
                let next = self.asking.call.race(next).await;
                self.source = Source::Router(deltas);
                next
            }
            Source::Checked(request, repairs_max) => {
                let response = self.asking.answer_in_schema(request, repairs_max).await?;
                let text = response.text();
                self.source = Source::Whole(Box::new(response));
                Ok(Delta::Text(text))
            }
            Source::Whole(response) => Ok(Delta::Done(*response)),
        }
    }
}

impl Completion {
    pub(super) fn new(open: OpenRequest) -> Self {
        Completion { writing: None, open: Some(open) }
    }

    /// Sends the request.
    pub(super) fn send(&mut self, mut asking: Asking, under_way: &mut UnderWay) {
        let request = std::mem::take(&mut asking.request);
        asking.reservation.sent();
        let source = match asking.router.repairs_max() {
            Some(repairs_max) if request.response_schema.is_some() => Source::Checked(request, repairs_max),
            _ => Source::Router(Arc::clone(&asking.router).stream(request)),
        };
        let line = Arc::new(Mutex::new(Some(Writing { source, asking })));
        under_way.add(&line);
        self.writing = Some(line);
    }

    /// What comes next; the end settles the request.
    pub(super) async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        // If the backend panics, the answer has ended, and gives back what it took.
        let line = self.writing.as_ref()?;
        let (mut writing, open) = (lock(line).take()?, self.open.take());
        match writing.next().await {
            Ok(Delta::Done(response)) => Some(writing.asking.settle(Ok(response)).map(Delta::Done)),
            Ok(delta) => {
                if let Source::Router(_) = writing.source {
                    writing.asking.reservation.given(delta.bytes());
                }
                *lock(line) = Some(writing);
                self.open = open;
                Some(Ok(delta))
            }
            Err(failure) => Some(writing.asking.settle(Err(failure)).map(Delta::Done)),
        }
    }
}

/// The requests of one execution that the guest does not wait for at once.
#[derive(Default)]
pub(super) struct UnderWay {
    /// Made with the first request that is not waited for.
    tasks: OnceLock<Tasks>,
    lines: Vec<Weak<Line>>,
}

/// Requests in tasks of their own.
#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl UnderWay {
    fn add(&mut self, line: &Arc<Line>) {
        // Those that are left are as many as may be open at once.
        self.lines.retain(|line| line.strong_count() > 0);
        self.lines.push(Arc::downgrade(line));
    }

    /// Stops them all, and waits until they have settled what they took.
    pub(super) async fn end(&mut self) {
        self.lines.drain(..).filter_map(|line| line.upgrade()).for_each(|line| drop(lock(&line).take()));
        if let Some(tasks) = self.tasks.get() {
            tasks.stop.cancel();
            tasks.tracker.close();
            tasks.tracker.wait().await;
        }
    }
}

fn lock(line: &Line) -> MutexGuard<'_, Option<Writing>> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
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
