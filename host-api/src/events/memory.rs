//! Events in memory, for tests and embedders; and nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Event, EventBackend, EventSink};
use crate::{HostError, Scope};

/// Keeps the events of all executions until somebody takes them. Each execution's own budgets bound it.
#[derive(Clone, Default)]
pub struct MemoryEvents {
    events: Arc<Mutex<HashMap<Uuid, Vec<Event>>>>,
}

impl MemoryEvents {
    /// Takes what an execution sent so far.
    pub fn take(&self, execution: Uuid) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).remove(&execution).unwrap_or_default()
    }
}

impl EventBackend for MemoryEvents {
    fn open(&self, _scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        Ok(Arc::new(self.clone()))
    }
}

impl EventSink for MemoryEvents {
    fn send(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).entry(event.execution).or_default().push(event);
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// Takes events and keeps none.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardEvents;

impl EventBackend for DiscardEvents {
    fn open(&self, _scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        Ok(Arc::new(DiscardEvents))
    }
}

impl EventSink for DiscardEvents {
    fn send(&self, _event: Event) {}

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        std::future::ready(Ok(())).boxed()
    }
}
