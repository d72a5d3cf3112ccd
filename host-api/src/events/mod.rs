//! What the caller sees while an execution is under way: events, progress, log lines.

mod backend;
mod context;
mod host;
mod memory;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use wasmtime::component::Linker;

pub use backend::{Event, EventBackend, EventKind, EventSink, Level};
pub use context::EventsContext;
pub use memory::{DiscardEvents, MemoryEvents};

use crate::{Capability, CapabilityContext, Gate, HasView, HostError, State};

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which has the documentation")]
    wasmtime::component::bindgen!({
        inline: "package holm:bindings; world events { import holm:host/events@0.1.0; }",
        path: "wit",
        imports: { default: trappable },
        with: { "holm:host/types": crate::bindings::types },
    });
    pub use holm::host::events;
}

/// The `events` capability.
pub struct Events {
    backend: Arc<dyn EventBackend>,
}

impl Events {
    /// Events go to this backend.
    pub fn new(backend: Arc<dyn EventBackend>) -> Self {
        Events { backend }
    }
}

impl Capability for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["holm:host/events@0.1.0"]
    }

    fn functions(&self) -> &'static [&'static str] {
        &["emit", "progress", "log"]
    }

    /// It is opened also where it is not granted: what a guest writes to stderr goes the same way.
    fn always_open(&self) -> bool {
        true
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        bindings::events::add_to_linker::<_, HasView<EventsContext>>(linker, State::view)
    }

    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        let opened = self.backend.open(gate.scope()).map(|sink| {
            let context = EventsContext::new(sink);
            gate.log_to(context.log_sink());
            Box::new(context) as Box<dyn CapabilityContext>
        });
        std::future::ready(opened).boxed()
    }
}
