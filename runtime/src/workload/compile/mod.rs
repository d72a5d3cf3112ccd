//! Compiled workloads: in memory, else mapped from the disk, else compiled, one flight for all callers.

mod child;
mod order;
mod settings;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Shared, WeakShared};
use holm_host_api::{HostError, State};
use moka::future::Cache;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use super::shown::{MESSAGE_CHARS_MAX, shown};
use super::{Digest, DiskCache, Shape, Workload, load, matches};
pub use settings::{CompileIn, CompileLimits, CompilerCommand};
pub use worker::compile_worker;

/// Compiled code that stays in memory, in KiB.
const COMPILED_KIB_MAX: u64 = 1 << 20;

/// Compilations at one time; each uses several cores by itself.
const COMPILATIONS_MAX: usize = 2;

/// Refusals that are remembered, a sentence each.
const REFUSALS_MAX: u64 = 10_000;

/// How long a refusal is remembered. Not for ever: a limit may have been hit because the machine was busy.
const REFUSAL_TIME: Duration = Duration::from_secs(600);

/// How long it is remembered that a compilation took too long: the machine may have been busy.
const TOO_LONG_TIME: Duration = Duration::from_secs(30);

/// Where the compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompiledFrom {
    /// This process had it.
    Memory,
    /// The cache folder had it.
    Disk,
    /// It was compiled.
    Source,
}

/// A workload that is ready to be instantiated.
pub struct Compiled {
    pub(crate) pre: InstancePre<State>,
    pub(crate) entry: ComponentExportIndex,
    pub(crate) shape: Shape,
    pub(crate) from: CompiledFrom,
    /// Core instances that one instantiation makes.
    pub(crate) instances: u64,
    code_kib: u32,
}

/// Compiling failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompileError {
    /// The workload cannot be compiled within the limits, or does not fit what the host offers. It is refused
    /// for the same reason for ten minutes, without another attempt.
    #[error("the workload cannot be compiled: {0}")]
    Refused(String),
    /// It took more wall time than it may. That may be the machine's fault, so that there is another attempt soon.
    #[error("the workload cannot be compiled: {0}")]
    TookTooLong(String),
    /// The host failed. The next attempt may succeed.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What a compiler is made of.
pub(crate) struct CompilerParts {
    pub(crate) engine: Engine,
    /// Name of the engine's configuration.
    pub(crate) fingerprint: String,
    pub(crate) linker: Linker<State>,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) compile_in: CompileIn,
    pub(crate) limits: CompileLimits,
    /// Where flights go on when the caller that began one is gone.
    pub(crate) tasks: Handle,
}

/// Compiles each workload once.
pub(crate) struct Compiler {
    parts: CompilerParts,
    compiled: Cache<Digest, Arc<Compiled>>,
    refused: Cache<Digest, Arc<str>>,
    took_too_long: Cache<Digest, Arc<str>>,
    flights: Mutex<HashMap<Digest, WeakShared<oneshot::Receiver<CompileResult>>>>,
    turns: Semaphore,
    started: AtomicU64,
}

type CompileResult = Result<Arc<Compiled>, CompileError>;

/// Where the result of a flight is awaited; closed once nobody does.
type Landed = oneshot::Sender<CompileResult>;

/// A workload under way. Once its compilation has begun it ends by itself, whoever waits.
type Flight = Shared<oneshot::Receiver<CompileResult>>;

/// Takes a flight off the list, however it ends.
struct Landing {
    compiler: Arc<Compiler>,
    digest: Digest,
    flight: Option<WeakShared<oneshot::Receiver<CompileResult>>>,
}

impl Compiler {
    pub(crate) fn new(parts: CompilerParts) -> Self {
        Compiler {
            parts,
            compiled: Cache::builder()
                .weigher(|_, compiled: &Arc<Compiled>| compiled.code_kib)
                .max_capacity(COMPILED_KIB_MAX)
                .time_to_idle(Duration::from_secs(24 * 3600))
                .build(),
            refused: Cache::builder().max_capacity(REFUSALS_MAX).time_to_live(REFUSAL_TIME).build(),
            took_too_long: Cache::builder().max_capacity(REFUSALS_MAX).time_to_live(TOO_LONG_TIME).build(),
            flights: Mutex::default(),
            turns: Semaphore::new(COMPILATIONS_MAX),
            started: AtomicU64::new(0),
        }
    }

    /// The compiled workload. Concurrent callers of one workload wait for the same compilation.
    pub(crate) async fn get(
        self: &Arc<Self>,
        workload: &Workload,
    ) -> Result<(Arc<Compiled>, CompiledFrom), CompileError> {
        if let Some(known) = self.known(workload.digest()).await {
            return Ok((known?, CompiledFrom::Memory));
        }
        let landed = self.flight(workload).await;
        let compiled = landed.map_err(|_| HostError::new("the runtime is shutting down"))??;
        let from = compiled.from;
        Ok((compiled, from))
    }

    /// Compilations that were begun.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    async fn known(&self, digest: &Digest) -> Option<CompileResult> {
        if let Some(compiled) = self.compiled.get(digest).await {
            return Some(Ok(compiled));
        }
        if let Some(reason) = self.refused.get(digest).await {
            return Some(Err(CompileError::Refused(reason.to_string())));
        }
        let reason = self.took_too_long.get(digest).await?;
        Some(Err(CompileError::TookTooLong(reason.to_string())))
    }

    /// The workload's flight, which is begun if there is none.
    fn flight(self: &Arc<Self>, workload: &Workload) -> Flight {
        let digest = *workload.digest();
        let (mut landed, arriving) = oneshot::channel();
        let flight = arriving.shared();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = flights.get(&digest).and_then(WeakShared::upgrade) {
            return under_way;
        }
        let listed = flight.downgrade();
        flights.extend(listed.clone().map(|flight| (digest, flight)));
        drop(flights);
        let landing = Landing { compiler: Arc::clone(self), digest, flight: listed };
        let workload = workload.clone();
        self.parts.tasks.spawn(async move {
            let result = landing.compiler.bring(&workload, &mut landed).await;
            drop(landing);
            let _ = landed.send(result);
        });
        flight
    }

    /// A workload's flight, if anybody waits for it or its compilation has begun.
    fn under_way(&self, digest: &Digest) -> Option<Flight> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).get(digest).and_then(WeakShared::upgrade)
    }

    /// Gets it from wherever it is, and remembers how that went.
    async fn bring(self: &Arc<Self>, workload: &Workload, landed: &mut Landed) -> CompileResult {
        let digest = *workload.digest();
        // Another flight may have landed since the caller looked.
        if let Some(known) = self.known(&digest).await {
            return known;
        }
        let result = match self.load(workload).await? {
            Some(compiled) => Ok(compiled),
            None => self.compile(workload, landed).await,
        };
        match &result {
            Ok(compiled) => self.compiled.insert(digest, Arc::clone(compiled)).await,
            Err(CompileError::Refused(reason)) => self.refused.insert(digest, reason.as_str().into()).await,
            Err(CompileError::TookTooLong(reason)) => {
                self.took_too_long.insert(digest, reason.as_str().into()).await;
            }
            Err(CompileError::Host(_)) => {}
        }
        result
    }

    async fn load(self: &Arc<Self>, workload: &Workload) -> Result<Option<Arc<Compiled>>, CompileError> {
        self.blocking(workload, |compiler, workload| {
            let disk = compiler.parts.disk.as_ref();
            let Some(component) = disk.and_then(|disk| disk.load(&compiler.parts.engine, workload)) else {
                return Ok(None);
            };
            compiler.link(workload, &component, CompiledFrom::Disk).map(Some)
        })
        .await
    }

    async fn compile(self: &Arc<Self>, workload: &Workload, landed: &mut Landed) -> CompileResult {
        let turn = tokio::select! {
            turn = self.turns.acquire() => turn.map_err(|error| HostError::new("the compiler failed").because(error))?,
            () = landed.closed() => return Err(abandoned()),
        };
        // From here on it ends by itself, and whoever asks meanwhile waits for it.
        let _begun = self.under_way(workload.digest()).ok_or_else(abandoned)?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let code = match &self.parts.compile_in {
            CompileIn::Child(command) => {
                child::compile(command, &self.parts.limits, &self.parts.fingerprint, workload).await?
            }
            CompileIn::ThisProcess => {
                self.blocking(workload, |compiler, workload| {
                    compiler.parts.engine.precompile_component(workload.component()).map_err(refused)
                })
                .await?
            }
        };
        // The turn ends when the code is where it stays: until then it is held twice.
        let _turn = turn;
        self.blocking(workload, move |compiler, workload| {
            let component = load::from_compiler(&compiler.parts.engine, &code)
                .map_err(|error| HostError::new("the compiler failed").because(error))?;
            let compiled = compiler.link(workload, &component, CompiledFrom::Source)?;
            if let Some(disk) = &compiler.parts.disk {
                disk.store(workload, &code);
            }
            Ok(compiled)
        })
        .await
    }

    /// Does work that holds a thread, on one that may be held.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        workload: &Workload,
        work: impl FnOnce(&Compiler, &Workload) -> Result<T, CompileError> + Send + 'static,
    ) -> Result<T, CompileError> {
        let (compiler, workload) = (Arc::clone(self), workload.clone());
        let done = self.parts.tasks.spawn_blocking(move || work(&compiler, &workload)).await;
        done.unwrap_or_else(|panic| Err(HostError::new("the compiler failed").because(panic).into()))
    }

    fn link(&self, workload: &Workload, component: &Component, from: CompiledFrom) -> CompileResult {
        let shape = workload.inspection().shape;
        let entry = match shape {
            Shape::Workload => component.get_export_index(None, "run"),
            Shape::Command => workload
                .inspection()
                .exports
                .iter()
                .find(|name| matches("wasi:cli/run@0.2.0", name))
                .and_then(|name| component.get_export_index(None, name))
                .and_then(|instance| component.get_export_index(Some(&instance), "run")),
        };
        let entry = entry.ok_or_else(|| CompileError::Refused("its entry point is gone".into()))?;
        let pre = self.parts.linker.instantiate_pre(component).map_err(refused)?;
        let instances = workload.inspection().footprint.core_instances;
        let code = component.image_range();
        // A small workload takes more than its code.
        let code_kib = u32::try_from((code.end.addr() - code.start.addr()) / 1024).unwrap_or(u32::MAX).max(64);
        Ok(Arc::new(Compiled { pre, entry, shape, from, instances, code_kib }))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let own = self.flight.as_ref().and_then(WeakShared::upgrade);
        let mut flights = self.compiler.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // When nobody waited for this one any more, another may have taken its place on the list, and it is waited for.
        let listed = flights.get(&self.digest).and_then(WeakShared::upgrade);
        if listed.is_none_or(|listed| own.is_some_and(|own| own.ptr_eq(&listed))) {
            flights.remove(&self.digest);
        }
    }
}

/// Nobody waits any more for what has not begun, and nobody hears of this.
fn abandoned() -> CompileError {
    HostError::new("nobody waits for this compilation").into()
}

fn refused(error: wasmtime::Error) -> CompileError {
    CompileError::Refused(shown(&format!("{error:#}"), MESSAGE_CHARS_MAX))
}
