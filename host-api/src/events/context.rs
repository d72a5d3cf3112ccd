//! What one execution owns of `events`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Event, EventKind, EventSink, Level};
use crate::{CapabilityContext, Ending, HostError, LogSink};

/// The numbered stream of one execution's events.
pub struct EventsContext {
    stream: Arc<Stream>,
}

struct Stream {
    sink: Arc<dyn EventSink>,
    next: AtomicU64,
}

impl EventsContext {
    pub(super) fn new(sink: Arc<dyn EventSink>) -> Self {
        EventsContext { stream: Arc::new(Stream { sink, next: AtomicU64::new(0) }) }
    }

    pub(super) fn log_sink(&self) -> Arc<dyn LogSink> {
        Arc::clone(&self.stream) as Arc<dyn LogSink>
    }

    pub(super) fn send(&self, execution: Uuid, kind: EventKind) {
        self.stream.send(execution, kind);
    }
}

impl Stream {
    fn send(&self, execution: Uuid, kind: EventKind) {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        self.sink.send(Event { execution, sequence, kind });
    }
}

impl LogSink for Stream {
    fn log(&self, execution: Uuid, level: Level, message: &str) {
        self.send(execution, EventKind::Log { level, message: message.to_owned() });
    }
}

impl CapabilityContext for EventsContext {
    fn finish<'a>(&'a mut self, _ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        self.stream.sink.flush()
    }
}
