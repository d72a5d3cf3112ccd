//! The trace of an execution: a tree of calls, and versioned objects with references to them.

mod backend;
mod charge;
mod context;
mod host;
mod json;
mod memory;
mod objects;
mod reference;
mod render;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use wasmtime::component::Linker;

pub use backend::{CallEnd, CallId, CallKind, CallStart, CallStatus, Feedback, TraceBackend, TraceError, TraceSink};
pub use context::Calls;
pub use host::TraceCall;
pub use json::Json;
pub use memory::{MemoryTrace, ObjectVersion};
pub use reference::{ContentDigest, ObjectName, Reference, Target};
pub use render::*;
pub use tree::{CallRecord, CallTree, Tokens};

use crate::{Capability, CapabilityContext, Ending, Gate, HasView, HostError, Outcome, State};

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which has the documentation")]
    wasmtime::component::bindgen!({
        inline: "package holm:bindings; world trace { import holm:host/trace@0.1.0; }",
        path: "wit",
        imports: {
            "holm:host/trace.publish": async | trappable,
            "holm:host/trace.resolve": async | trappable,
            "holm:host/trace.feedback": async | trappable,
            default: trappable,
        },
        with: {
            "holm:host/types": crate::bindings::types,
            "holm:host/trace.call": super::TraceCall,
        },
    });
    pub use holm::host::trace;
}

/// The `trace` capability.
pub struct Trace {
    backend: Arc<dyn TraceBackend>,
}

impl Trace {
    /// Traces go to this backend.
    pub fn new(backend: Arc<dyn TraceBackend>) -> Self {
        Trace { backend }
    }
}

impl Capability for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["holm:host/trace@0.1.0"]
    }

    fn functions(&self) -> &'static [&'static str] {
        &["start", "child", "set-attribute", "finish", "publish", "resolve", "feedback"]
    }

    /// It is opened also where it is not granted: the host's own calls are traced for the user.
    fn always_open(&self) -> bool {
        true
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        bindings::trace::add_to_linker::<_, HasView<TraceContext>>(linker, State::view)
    }

    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        let opened = Calls::open(&*self.backend, gate.scope(), gate.meter(), gate.scope().input_bytes)
            .map_err(HostError::from)
            .map(|calls| {
                gate.observe(Arc::clone(&calls) as _);
                Box::new(TraceContext { calls }) as Box<dyn CapabilityContext>
            });
        std::future::ready(opened).boxed()
    }
}

/// What one execution owns of `trace`.
pub struct TraceContext {
    calls: Arc<Calls>,
}

impl CapabilityContext for TraceContext {
    /// Closes what is open with the outcome, and waits until the backend has it all.
    fn finish<'a>(&'a mut self, ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        let output = matches!(ending.outcome, Outcome::Completed)
            .then(|| Json::from_text(&String::from_utf8_lossy(&ending.output)));
        self.calls.finish(&ending.outcome, output, ending.error.clone());
        self.calls.flush().map(|flushed| flushed.map_err(HostError::from)).boxed()
    }
}
