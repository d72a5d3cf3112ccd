//! Language models, through the router that is built for one execution alone.

mod backend;
mod context;
mod convert;
mod host;
mod memory;
mod pending;
mod spending;
mod structured;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use wasmtime::component::Linker;

pub use backend::{
    Attempt, Blob, Delta, Embeddings, FinishReason, LlmBackend, LlmError, Message, Part, Price, Request, Response,
    Role, Router, RouterLimits, Tier, Tool, ToolCall, ToolResult, Usage,
};
pub use context::LlmContext;
pub use memory::{AnswerSchema, InvalidScript, OfflineProvider, Script};
pub use pending::{Completion, PendingAnswer};

use crate::{BudgetName, Capability, CapabilityContext, Gate, HasView, HostError, State};

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which has the documentation")]
    wasmtime::component::bindgen!({
        inline: "package holm:bindings; world llm { import holm:host/llm@0.1.0; }",
        path: "wit",
        imports: {
            "holm:host/llm.complete": async | trappable,
            "holm:host/llm.wait": async | trappable,
            "holm:host/llm.embed": async | trappable,
            "holm:host/llm.[method]completion.next": async | trappable,
            default: trappable,
        },
        with: {
            "holm:host/types": crate::bindings::types,
            "holm:host/llm.pending": super::PendingAnswer,
            "holm:host/llm.completion": super::Completion,
        },
    });
    pub use holm::host::llm;
}

/// The `llm` capability.
pub struct Llm {
    backend: Arc<dyn LlmBackend>,
}

impl Llm {
    /// Requests go to the routers that this backend makes.
    pub fn new(backend: Arc<dyn LlmBackend>) -> Self {
        Llm { backend }
    }
}

impl Capability for Llm {
    fn name(&self) -> &'static str {
        "llm"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["holm:host/llm@0.1.0"]
    }

    fn functions(&self) -> &'static [&'static str] {
        &["complete", "submit", "start-stream", "embed"]
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        bindings::llm::add_to_linker::<_, HasView<LlmContext>>(linker, State::view)
    }

    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        let opened = self
            .backend
            .open(gate.scope())
            .map(|router| {
                let RouterLimits { tokens, cost_microusd } = router.limits();
                gate.meter().tighten(BudgetName::LlmTokens, tokens);
                gate.meter().tighten(BudgetName::LlmCostMicrousd, cost_microusd);
                Box::new(LlmContext::new(router)) as Box<dyn CapabilityContext>
            })
            .map_err(|error| HostError::new(error.to_string()));
        std::future::ready(opened).boxed()
    }
}
