//! What a backend for events implements.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{HostError, Scope};

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the workload's author.
    Debug,
    /// Also what a guest writes to stderr.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// An event of the workload's own kind.
    Event {
        /// The workload's name for it.
        kind: String,
        /// Usually JSON.
        payload: String,
    },
    /// How far the work has come.
    Progress {
        /// Steps done.
        done: u64,
        /// Steps in all, where it is known.
        total: Option<u64>,
        /// What is being done.
        message: String,
    },
    /// A log line, or a line on stderr.
    Log {
        /// How much it matters.
        level: Level,
        /// The line.
        message: String,
    },
}

/// One event of one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The execution.
    pub execution: Uuid,
    /// Its place among the execution's events, from 0.
    pub sequence: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Takes the events of all executions.
pub trait EventBackend: Send + Sync + 'static {
    /// Opens the sink of one execution.
    ///
    /// # Errors
    /// The backend cannot take events now.
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError>;
}

/// Takes the events of one execution.
pub trait EventSink: Send + Sync + 'static {
    /// Takes an event. It never blocks: a sink that is full drops, and says so to its reader.
    fn send(&self, event: Event);

    /// Hands over all that was sent.
    ///
    /// # Errors
    /// Some of it is lost.
    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>>;
}
