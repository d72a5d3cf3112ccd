//! How a runtime is put together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holm_host_api::events::{DiscardEvents, EventBackend, Events};
use holm_host_api::execution::Execution;
use holm_host_api::llm::{Llm, LlmBackend, OfflineProvider};
use holm_host_api::trace::{MemoryTrace, Trace, TraceBackend};
use holm_host_api::{Capability, CapabilitySet, DuplicateCapability, HostError, State, wasi};
use wasmtime::component::Linker;

use crate::engine;
use crate::execution::{Registry, ScratchRoot, Turns};
use crate::runtime::{GuestThreads, Inner, Runtime};
use crate::user::Admission;
use crate::workload::{CompileIn, CompileLimits, Compiler, CompilerParts, DiskCache, IntakeLimits};

/// Guests yield often; these make their threads look at timers, sockets and new work as often, so that
/// spinning guests delay neither a deadline nor a neighbour's start by more than a few turns.
const GUEST_TURNS_PER_LOOK: u32 = 3;

type AddCapability = Box<dyn FnOnce(&mut CapabilitySet) -> Result<(), DuplicateCapability> + Send>;

/// Traces that are kept where the embedder chose no backend: enough to look at, too few to fill a server.
const TRACES_MAX: usize = 50;

/// Puts a runtime together. What is not set has a default that is good for one machine.
pub struct RuntimeBuilder {
    executions_max: u32,
    guest_threads: Option<usize>,
    cache_dir: Option<PathBuf>,
    scratch_dir: Option<PathBuf>,
    compile_in: CompileIn,
    compile_limits: CompileLimits,
    intake_limits: IntakeLimits,
    open_time_max: Duration,
    finish_time_max: Duration,
    events: Arc<dyn EventBackend>,
    trace: Arc<dyn TraceBackend>,
    llm: Arc<dyn LlmBackend>,
    added: Vec<AddCapability>,
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        RuntimeBuilder {
            executions_max: 1_000,
            guest_threads: None,
            cache_dir: None,
            scratch_dir: None,
            compile_in: CompileIn::default(),
            compile_limits: CompileLimits::default(),
            intake_limits: IntakeLimits::default(),
            open_time_max: Duration::from_secs(5),
            finish_time_max: Duration::from_secs(5),
            events: Arc::new(DiscardEvents),
            trace: Arc::new(MemoryTrace::new(TRACES_MAX, 1 << 20)),
            llm: Arc::new(OfflineProvider::default()),
            added: Vec::new(),
        }
    }
}

impl RuntimeBuilder {
    /// Executions at one time; more wait their turn. Address space and the kernel's limit on mappings
    /// bound it: about 10,000 on an untuned Linux.
    #[must_use]
    pub fn executions_max(mut self, executions_max: u32) -> Self {
        self.executions_max = executions_max.max(1);
        self
    }

    /// Threads that guests run on; one for each core by default.
    #[must_use]
    pub fn guest_threads(mut self, threads: usize) -> Self {
        self.guest_threads = Some(threads.max(1));
        self
    }

    /// Keeps compiled code in this folder, which must be the operator's alone. Nowhere by default.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Makes the scratch folders of executions below this folder, which must be the operator's alone; several
    /// runtimes may share it. Nowhere by default: an execution that asks for a scratch folder fails then.
    #[must_use]
    pub fn scratch_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.scratch_dir = Some(dir.into());
        self
    }

    /// Which process compiles: this one by default, as a library does not know which program to start. A server
    /// that compiles what its users upload names a child, such as itself:
    ///
    /// ```no_run
    /// use holm_runtime::{CompileIn, CompilerCommand, Runtime};
    ///
    /// fn main() -> std::process::ExitCode {
    ///     // Before this program starts a thread or opens a file.
    ///     if std::env::args_os().nth(1).is_some_and(|argument| argument == "compile-worker") {
    ///         return holm_runtime::compile_worker();
    ///     }
    ///     let compile_in = CompileIn::Child(CompilerCommand::this_program("compile-worker"));
    ///     let runtime = Runtime::builder().compile_in(compile_in).build();
    ///     // …
    ///     # drop(runtime);
    ///     std::process::ExitCode::SUCCESS
    /// }
    /// ```
    #[must_use]
    pub fn compile_in(mut self, compile_in: CompileIn) -> Self {
        self.compile_in = compile_in;
        self
    }

    /// What compiling one workload in a child may take.
    #[must_use]
    pub fn compile_limits(mut self, limits: CompileLimits) -> Self {
        self.compile_limits = limits;
        self
    }

    /// What a workload may be made of.
    #[must_use]
    pub fn intake_limits(mut self, limits: IntakeLimits) -> Self {
        self.intake_limits = limits;
        self
    }

    /// How long a capability's backend may take to finish an execution.
    #[must_use]
    pub fn finish_time_max(mut self, time: Duration) -> Self {
        self.finish_time_max = time;
        self
    }

    /// How long a capability's backend may take to open for an execution.
    #[must_use]
    pub fn open_time_max(mut self, time: Duration) -> Self {
        self.open_time_max = time;
        self
    }

    /// Where events and log lines go; nowhere by default.
    #[must_use]
    pub fn events(mut self, backend: impl EventBackend) -> Self {
        self.events = Arc::new(backend);
        self
    }

    /// Where traces and objects go; the newest few to memory by default.
    #[must_use]
    pub fn trace(mut self, backend: impl TraceBackend) -> Self {
        self.trace = Arc::new(backend);
        self
    }

    /// Who answers requests to language models; the offline provider by default.
    #[must_use]
    pub fn llm(mut self, backend: impl LlmBackend) -> Self {
        self.llm = Arc::new(backend);
        self
    }

    /// Adds a capability of the embedder's own. It opens after the standard ones and finishes before them.
    #[must_use]
    pub fn capability(mut self, capability: impl Capability) -> Self {
        self.added.push(Box::new(move |set| set.add(capability).map(|_| ())));
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    /// The engine does not start on this machine, two capabilities collide, the cache folder or the
    /// folder for scratch folders cannot be used, or the guests' threads cannot be started.
    pub fn build(self) -> Result<Runtime, HostError> {
        let collide = |error: DuplicateCapability| HostError::new(error.to_string());
        let mut capabilities = CapabilitySet::default();
        // They finish in reverse: models settle before the trace is flushed, events come last.
        capabilities
            .add(Execution)
            .and_then(|set| set.add(Events::new(self.events)))
            .and_then(|set| set.add(Trace::new(self.trace)))
            .and_then(|set| set.add(Llm::new(self.llm)))
            .map_err(collide)?;
        for add in self.added {
            add(&mut capabilities).map_err(collide)?;
        }
        let engine = engine::new(self.executions_max)?;
        let mut linker = Linker::<State>::new(&engine.engine);
        wasi::link(&mut linker)
            .and_then(|()| capabilities.link(&mut linker))
            .map_err(|error| HostError::new("two capabilities provide the same function").because(error))?;
        // Where nobody says how many, tokio would ask an environment variable.
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = self.guest_threads.unwrap_or_else(cores);
        let disk = self.cache_dir.map(|dir| DiskCache::open(&dir, &engine.fingerprint)).transpose()?;
        let scratch = self.scratch_dir.map(|dir| ScratchRoot::open(&dir)).transpose()?;
        if let CompileIn::ThisProcess = self.compile_in {
            // The compiler's threads, of which a process has one set, would ask the environment how many they be.
            // Where the embedder has made them already that is well.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(cores()).build_global();
        }
        let guests = guest_threads(threads)?;
        let compiler = Compiler::new(CompilerParts {
            engine: engine.engine.clone(),
            fingerprint: engine.fingerprint.clone(),
            linker,
            disk,
            compile_in: self.compile_in,
            limits: self.compile_limits,
            tasks: guests.handle()?,
        });
        Ok(Runtime::new(Inner {
            compiler: Arc::new(compiler),
            capabilities,
            intake_limits: self.intake_limits,
            admission: Admission::new(engine.allocation, self.executions_max),
            registry: Arc::new(Registry::default()),
            guests,
            turns: Turns::new(threads),
            engine,
            open_time_max: self.open_time_max,
            finish_time_max: self.finish_time_max,
            scratch,
        }))
    }
}

fn guest_threads(threads: usize) -> Result<GuestThreads, HostError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .thread_name("holm-guest")
        .event_interval(GUEST_TURNS_PER_LOOK)
        .global_queue_interval(GUEST_TURNS_PER_LOOK)
        .enable_all()
        .build()
        .map(|threads| GuestThreads(Some(threads)))
        .map_err(|error| HostError::new("the guests' threads cannot be started").because(error))
}
