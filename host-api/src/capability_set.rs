//! The capabilities of a runtime, in order: linked all, opened all or none, finished in reverse.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use serde::Serialize;
use wasmtime::component::Linker;

use crate::{Capability, CapabilityContext, Ending, Gate, HostError, Outcome, State};

/// The capabilities that guests of a runtime can be granted.
#[derive(Default)]
pub struct CapabilitySet {
    capabilities: Vec<Box<dyn Capability>>,
}

/// A capability of this name is in the set already.
#[derive(Debug, thiserror::Error)]
#[error("a capability named `{0}` was added already")]
pub struct DuplicateCapability(&'static str);

/// An opened capability of one execution.
pub struct OpenCapability {
    /// The capability's name.
    pub name: &'static str,
    /// What the execution owns of it.
    pub context: Box<dyn CapabilityContext>,
}

/// What went wrong while the capabilities of an execution finished. It never changes how the execution ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FinishReport {
    /// A line for each capability that failed, timed out or panicked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// What each capability says that the execution used of it.
    #[serde(skip)]
    pub usage: serde_json::Map<String, serde_json::Value>,
}

impl CapabilitySet {
    /// Adds a capability; those added later finish earlier.
    ///
    /// # Errors
    /// One of the same name is there.
    pub fn add(&mut self, capability: impl Capability) -> Result<&mut Self, DuplicateCapability> {
        if self.find(capability.name()).is_some() {
            return Err(DuplicateCapability(capability.name()));
        }
        self.capabilities.push(Box::new(capability));
        Ok(self)
    }

    /// All capabilities, in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Capability> {
        self.capabilities.iter().map(Box::as_ref)
    }

    /// The capability of this name.
    pub fn find(&self, name: &str) -> Option<&dyn Capability> {
        self.iter().find(|capability| capability.name() == name)
    }

    /// Links every capability.
    ///
    /// # Errors
    /// Two provide the same function.
    pub fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        self.iter().try_for_each(|capability| capability.link(linker))
    }

    /// Opens every capability that the execution is granted: all of them or none. If one fails, those
    /// already open are finished as a host error.
    ///
    /// # Errors
    /// One could not be opened, did not do so in time, or panicked.
    pub async fn open(&self, gate: &mut Gate, time_max: Duration) -> Result<Vec<OpenCapability>, HostError> {
        let mut opened = Vec::with_capacity(self.capabilities.len());
        for capability in self.iter() {
            if !capability.always_open() && !gate.scope().grants.allows_import(capability.name()) {
                continue;
            }
            match guard(async { capability.open(gate).await }, time_max).await {
                Ok(context) => opened.push(OpenCapability { name: capability.name(), context }),
                Err(error) => {
                    finish(&mut opened, &Ending::of(Outcome::HostError), time_max).await;
                    let failed = HostError::new(format!("`{}` could not be opened: {error}", capability.name()));
                    return Err(match error.cause() {
                        Some(cause) => failed.because(cause),
                        None => failed,
                    });
                }
            }
        }
        Ok(opened)
    }
}

/// Finishes opened capabilities in reverse order, each within `time_max`, whatever the others do.
pub async fn finish(opened: &mut Vec<OpenCapability>, ending: &Ending, time_max: Duration) -> FinishReport {
    let mut report = FinishReport::default();
    while let Some(mut open) = opened.pop() {
        if let Err(error) = guard(async { open.context.finish(ending).await }, time_max).await {
            tracing::warn!(capability = open.name, cause = error.cause(), "finish failed: {error}");
            report.failures.push(format!("{}: {error}", open.name));
        }
        if let Ok(Some(usage)) = std::panic::catch_unwind(AssertUnwindSafe(|| open.context.usage())) {
            report.usage.insert(open.name.to_owned(), usage);
        }
        // Dropping a context is the backend's code too.
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(open.context))).is_err() {
            report.failures.push(format!("{}: panicked while it was dropped", open.name));
        }
    }
    report
}

/// Runs a backend's work so that neither a hang nor a panic of it gets any further. What makes the work is
/// the backend's too, so it has to be part of it.
async fn guard<T>(work: impl Future<Output = Result<T, HostError>>, time_max: Duration) -> Result<T, HostError> {
    tokio::select! {
        biased;
        done = AssertUnwindSafe(work).catch_unwind() => {
            done.unwrap_or_else(|_panic| Err(HostError::new("the backend panicked")))
        }
        // Most backends answer at once: the timer is made for those that do not.
        () = async { tokio::time::sleep(time_max).await } => {
            Err(HostError::new(format!("the backend did not answer in {} ms", time_max.as_millis())))
        }
    }
}

#[cfg(test)]
mod tests;
