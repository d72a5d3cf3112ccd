//! What a capability is: something that a guest can ask of the host.

use std::any::Any;

use futures::future::BoxFuture;
use wasmtime::component::Linker;

use crate::{Ending, Gate, HostError, State};

/// One thing a guest can ask of the host. It lives as long as the runtime and holds no execution's data.
pub trait Capability: Send + Sync + 'static {
    /// Its name in grants and records, such as `llm`.
    fn name(&self) -> &'static str;

    /// The interfaces that it provides, as a workload imports them, such as `holm:host/llm@0.1.0`.
    fn interfaces(&self) -> &'static [&'static str];

    /// The functions that can be granted by themselves, such as `complete`. None are known where this is empty.
    fn functions(&self) -> &'static [&'static str] {
        &[]
    }

    /// False for what reaches nothing but the execution itself.
    fn needs_grant(&self) -> bool {
        true
    }

    /// True if the host itself works through it, so that it is opened also where it is not granted.
    fn always_open(&self) -> bool {
        !self.needs_grant()
    }

    /// Adds its host functions.
    ///
    /// # Errors
    /// Another capability provides the same functions.
    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()>;

    /// Opens it for one execution. `gate` is that execution's: who it belongs to, and its budgets.
    ///
    /// # Errors
    /// The backend cannot serve this execution; the execution ends as a host error.
    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>>;
}

/// What one execution owns of a capability. It is dropped with the execution.
pub trait CapabilityContext: Any + Send {
    /// Called once, on every outcome, in reverse order of opening: commit or roll back, flush, settle.
    /// It may be given up if it takes too long, and is dropped in any case.
    fn finish<'a>(&'a mut self, ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>>;

    /// What the execution used of it, for the record.
    fn usage(&self) -> Option<serde_json::Value> {
        None
    }
}
