//! Who an execution belongs to and what it may still spend.

mod host;
#[cfg(test)]
mod tests;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use wasmtime::component::Linker;

use crate::{Capability, CapabilityContext, Ending, Gate, HasView, HostError, State};

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which has the documentation")]
    wasmtime::component::bindgen!({
        inline: "package holm:bindings; world execution { import holm:host/execution@0.1.0; }",
        path: "wit",
        imports: { default: trappable },
    });
    pub use holm::host::execution;
}

/// The `execution` capability. It has no backend: all that it tells is the execution's own scope and meter.
#[derive(Debug, Default)]
pub struct Execution;

impl Capability for Execution {
    fn name(&self) -> &'static str {
        "execution"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["holm:host/execution@0.1.0"]
    }

    fn needs_grant(&self) -> bool {
        false
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        bindings::execution::add_to_linker::<_, HasView<ExecutionContext>>(linker, State::view)
    }

    fn open<'a>(&'a self, _gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        std::future::ready(Ok(Box::new(ExecutionContext) as Box<dyn CapabilityContext>)).boxed()
    }
}

/// What one execution owns of it: nothing.
#[derive(Debug)]
pub struct ExecutionContext;

impl CapabilityContext for ExecutionContext {
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        std::future::ready(Ok(())).boxed()
    }
}
