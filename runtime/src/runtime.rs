//! The pipeline: every execution goes through these stages, and no other way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use holm_host_api::{CapabilitySet, HostError, Name, Outcome};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::builder::RuntimeBuilder;
use crate::engine::{Allocation, HolmEngine};
use crate::execution::{
    Asked, Execution, ExecutionRequest, Live, Registered, Registry, ScratchRoot, Turns, instantiate,
};
use crate::user::{self, Admission, Permit, Refusal};
use crate::workload::{CompileError, Compiled, CompiledFrom, Compiler, IntakeError, IntakeLimits, Workload};

/// A workload up to this size begins on the caller's thread; to instantiate a larger one may take long.
const BEGINS_HERE_BYTES_MAX: usize = 1 << 20;

/// Runs executions. Cheap to clone; all clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: HolmEngine,
    pub(crate) capabilities: CapabilitySet,
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) intake_limits: IntakeLimits,
    pub(crate) admission: Admission,
    pub(crate) registry: Arc<Registry>,
    pub(crate) guests: GuestThreads,
    pub(crate) turns: Arc<Turns>,
    pub(crate) open_time_max: Duration,
    pub(crate) finish_time_max: Duration,
    pub(crate) scratch: Option<Arc<ScratchRoot>>,
}

/// Guests have threads of their own: one that spins never holds the caller's timers and sockets.
pub(crate) struct GuestThreads(pub(crate) Option<tokio::runtime::Runtime>);

/// What admission gives: a place, and an entry among the executions under way.
struct Admitted {
    permit: Permit,
    registered: Registered,
}

/// Counts of what a runtime holds now. All are zero when nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Executions that were admitted and have not ended.
    pub executions: usize,
    /// Places that are taken.
    pub permits: usize,
    /// Component instances in the pool; `None` without a pool.
    pub instances: Option<u64>,
    /// Linear memories in the pool; `None` without a pool.
    pub memories: Option<usize>,
    /// Tasks on the guests' threads: executions, and compilations under way.
    pub tasks: usize,
}

impl Runtime {
    /// A runtime to be configured.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Runtime { inner: Arc::new(inner) }
    }

    /// Takes a workload in: its bytes are inspected, made into a component and named by their digest.
    /// Nothing is compiled yet.
    ///
    /// # Errors
    /// The bytes are no workload that could ever run; the error says what and where.
    pub fn intake(&self, bytes: &[u8]) -> Result<Workload, IntakeError> {
        Workload::from_bytes(bytes, &self.inner.intake_limits)
    }

    /// Compiles a workload ahead of its first execution, and says where the code came from.
    ///
    /// # Errors
    /// The workload cannot be compiled, or could not be a short while ago.
    pub async fn compile(&self, workload: &Workload) -> Result<CompiledFrom, CompileError> {
        Ok(self.inner.compiler.get(workload).await?.1)
    }

    /// Compilations that were begun so far. Neither code in memory or on disk nor a remembered refusal begins one.
    pub fn compilations_started(&self) -> u64 {
        self.inner.compiler.started()
    }

    /// Says whether an execution would be admitted, and if not, why.
    ///
    /// # Errors
    /// The sentence that its record would carry.
    pub fn check(&self, request: &ExecutionRequest) -> Result<(), String> {
        user::check(request, &self.inner.capabilities).map_err(|refusal| refusal.to_string())
    }

    /// Runs one execution to its end. However it ends, there is a record, and nothing else is left.
    ///
    /// Dropping the future asks the execution to stop; it still finishes by itself.
    pub async fn execute(&self, request: ExecutionRequest) -> Execution {
        let asked = Asked::now(request);
        let started = async {
            let registered = self.admit(&asked)?;
            let workload = &asked.request.workload;
            let (compiled, _) = self.inner.compiler.get(workload).await?;
            // Last: who waits for a compilation takes no place from those who do not.
            let needs = &workload.inspection().footprint;
            let permit = self.inner.admission.wait(&asked.request.user, needs).await?;
            Ok((Admitted { permit, registered }, compiled))
        };
        let started = tokio::select! {
            biased;
            started = started => started,
            () = asked.cancellation.cancelled() => Err(NotStarted::Cancelled),
        };
        match started {
            Ok((admitted, compiled)) => self.run(asked, admitted, compiled).await,
            Err(reason) => reason.into_execution(&asked),
        }
    }

    fn admit(&self, Asked { request, cancellation, .. }: &Asked) -> Result<Registered, NotStarted> {
        user::check(request, &self.inner.capabilities)?;
        let registered = self.inner.registry.enter(request.execution, &request.user, cancellation);
        Ok(registered.ok_or(Refusal::IdInUse(request.execution))?)
    }

    /// Instantiate, run, end, finish, clean up: on the guests' threads, where a panic ends the task and no more.
    async fn run(&self, asked: Arc<Asked>, admitted: Admitted, compiled: Arc<Compiled>) -> Execution {
        let Admitted { permit, registered } = admitted;
        let inner = Arc::clone(&self.inner);
        let unended = Arc::clone(&asked);
        let stop_if_dropped = asked.cancellation.clone().drop_guard();
        let workload = &asked.request.workload;
        let begins_here =
            workload.component().len() <= BEGINS_HERE_BYTES_MAX && !workload.inspection().copies_between_components;
        let work = async move {
            let (capabilities, scratch) = (&inner.capabilities, inner.scratch.as_ref());
            let instance =
                instantiate(&inner.engine.engine, capabilities, inner.open_time_max, scratch, &asked, compiled);
            let execution = match instance.await {
                Ok(instance) => instance.run(&inner.turns).await.finish(inner.finish_time_max).await,
                Err(error) => NotStarted::Host(error).into_execution(&asked),
            };
            drop(registered);
            drop(permit);
            execution
        };
        let ended = self.inner.guests.run(work, begins_here).await;
        stop_if_dropped.disarm();
        ended.unwrap_or_else(|error| NotStarted::Host(error).into_execution(&unended))
    }

    /// Asks a user's execution to stop. False if that user has none of this id under way.
    pub fn cancel(&self, user: &Name, execution: Uuid) -> bool {
        self.inner.registry.cancel(user, execution)
    }

    /// The executions under way.
    pub fn live(&self) -> Vec<Live> {
        self.inner.registry.list()
    }

    /// Counts what is held now.
    pub fn held(&self) -> Held {
        let pool = self.inner.engine.engine.pooling_allocator_metrics();
        Held {
            executions: self.inner.registry.list().len(),
            permits: self.inner.admission.taken(),
            instances: pool.as_ref().map(wasmtime::PoolingAllocatorMetrics::component_instances),
            memories: pool.as_ref().map(wasmtime::PoolingAllocatorMetrics::memories),
            tasks: self.inner.guests.tasks(),
        }
    }

    /// How instances get their memory.
    pub fn allocation(&self) -> Allocation {
        self.inner.engine.allocation
    }

    /// The capabilities that guests can be granted.
    pub fn capabilities(&self) -> &CapabilitySet {
        &self.inner.capabilities
    }
}

impl GuestThreads {
    /// Runs work on these threads; a panic in it ends it and no more. Work that `begins_here` is done on the
    /// caller's thread up to its first wait or yield: a guest yields every two hundred thousand units of fuel,
    /// and waking another thread takes about as long as that lasts.
    async fn run<F>(&self, work: F, begins_here: bool) -> Result<F::Output, HostError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let Some(threads) = &self.0 else { return Err(HostError::new("the runtime is shutting down")) };
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let begun = if begins_here {
            let _timers_and_tasks_are_the_guests = threads.enter();
            // Nobody has to be woken: the threads look at it again at once.
            work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        } else {
            Poll::Pending
        };
        let ended = match begun {
            Poll::Ready(ended) => Ok(ended),
            Poll::Pending => threads.spawn(work).await,
        };
        match ended {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_panic)) => Err(HostError::new("the host failed").because("it panicked")),
            Err(stopped) => Err(HostError::new("the host failed").because(stopped)),
        }
    }

    /// For work that is not a guest's and must not end with its caller.
    pub(crate) fn handle(&self) -> Result<Handle, HostError> {
        let threads = self.0.as_ref().ok_or_else(|| HostError::new("the runtime is shutting down"))?;
        Ok(threads.handle().clone())
    }

    fn tasks(&self) -> usize {
        self.0.as_ref().map_or(0, |threads| threads.metrics().num_alive_tasks())
    }
}

impl Drop for GuestThreads {
    /// A runtime may be dropped where nothing may block; what is left on the threads ends at its next wait.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Why an execution has no instance to speak of.
enum NotStarted {
    Refused(String),
    Cancelled,
    Host(HostError),
}

impl NotStarted {
    fn into_execution(self, asked: &Asked) -> Execution {
        match self {
            NotStarted::Refused(reason) => Execution::unstarted(asked, Outcome::Refused, reason, None),
            NotStarted::Cancelled => Execution::unstarted(asked, Outcome::Cancelled, "cancelled".into(), None),
            NotStarted::Host(error) => {
                Execution::unstarted(asked, Outcome::HostError, error.message().to_owned(), error.cause())
            }
        }
    }
}

impl From<Refusal> for NotStarted {
    fn from(refusal: Refusal) -> Self {
        NotStarted::Refused(refusal.to_string())
    }
}

impl From<HostError> for NotStarted {
    fn from(error: HostError) -> Self {
        NotStarted::Host(error)
    }
}

impl From<CompileError> for NotStarted {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Host(error) => NotStarted::Host(error),
            refused @ (CompileError::Refused(_) | CompileError::TookTooLong(_)) => {
                NotStarted::Refused(refused.to_string())
            }
        }
    }
}
