//! Compiled workloads: in memory, else mapped from the disk, else compiled, one caller for all.

use std::sync::Arc;
use std::time::Duration;

use holm_host_api::{HostError, State};
use moka::future::Cache;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use super::{Digest, DiskCache, Shape, Workload, matches};

/// Workloads that stay compiled in memory.
const COMPILED_MAX: u64 = 1_000;

/// Compilations at one time; each uses all cores by itself.
const COMPILATIONS_MAX: usize = 2;

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
}

/// Compiling failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompileError {
    /// The workload cannot be compiled, or does not fit what the host offers.
    #[error("the workload cannot be compiled: {0}")]
    Refused(String),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Compiles each workload once.
pub(crate) struct Compiler {
    engine: Engine,
    linker: Linker<State>,
    disk: Option<DiskCache>,
    compiled: Cache<Digest, Arc<Compiled>>,
    turns: Arc<Semaphore>,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, linker: Linker<State>, disk: Option<DiskCache>) -> Self {
        Compiler {
            engine,
            linker,
            disk,
            compiled: Cache::builder().max_capacity(COMPILED_MAX).time_to_idle(Duration::from_secs(24 * 3600)).build(),
            turns: Arc::new(Semaphore::new(COMPILATIONS_MAX)),
        }
    }

    /// The compiled workload. Concurrent callers of one workload wait for the same compilation.
    pub(crate) async fn get(
        self: &Arc<Self>,
        workload: &Workload,
    ) -> Result<(Arc<Compiled>, CompiledFrom), CompileError> {
        let digest = *workload.digest();
        if let Some(compiled) = self.compiled.get(&digest).await {
            return Ok((compiled, CompiledFrom::Memory));
        }
        let compiler = Arc::clone(self);
        let workload = workload.clone();
        let compiled = self
            .compiled
            .try_get_with(digest, async move {
                let turn = Arc::clone(&compiler.turns).acquire_owned().await;
                tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    compiler.load_or_compile(&workload).map(Arc::new)
                })
                .await
                .unwrap_or_else(|panic| Err(HostError::new("the compiler failed").because(panic).into()))
            })
            .await
            .map_err(|error: Arc<CompileError>| CompileError::clone(&error))?;
        let from = compiled.from;
        Ok((compiled, from))
    }

    fn load_or_compile(&self, workload: &Workload) -> Result<Compiled, CompileError> {
        if let Some(component) = self.disk.as_ref().and_then(|disk| disk.load(&self.engine, workload.digest())) {
            return self.link(workload, &component, CompiledFrom::Disk);
        }
        let component = Component::from_binary(&self.engine, workload.component())
            .map_err(|error| CompileError::Refused(format!("{error:#}")))?;
        let compiled = self.link(workload, &component, CompiledFrom::Source)?;
        if let Some(disk) = &self.disk {
            disk.store(workload.digest(), &component);
        }
        Ok(compiled)
    }

    fn link(&self, workload: &Workload, component: &Component, from: CompiledFrom) -> Result<Compiled, CompileError> {
        let refused = |error: wasmtime::Error| CompileError::Refused(format!("{error:#}"));
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
        let pre = self.linker.instantiate_pre(component).map_err(refused)?;
        Ok(Compiled { pre, entry, shape, from, instances: workload.inspection().footprint.core_instances })
    }
}
