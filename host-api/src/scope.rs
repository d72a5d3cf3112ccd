//! Who an execution belongs to: immutable, and the only source of identity there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Grants, Name};

/// The identity and the bounds in time of one execution. It is made by admission and never changes;
/// nothing in it comes from the guest.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The execution's id, a UUIDv7.
    pub execution: Uuid,
    /// The user who owns everything that this execution touches.
    pub user: Name,
    /// The session it runs in.
    pub session: Option<Name>,
    /// The program of the session that it runs.
    pub program: Option<Name>,
    /// The profile of the user's context that it runs with.
    pub profile: Option<Name>,
    /// Digest of the workload's bytes, `sha256:…`.
    pub workload: Arc<str>,
    /// Size of its input.
    pub input_bytes: u64,
    /// What it may import and call.
    pub grants: Arc<Grants>,
    /// The program's configuration, which the guest reads by key.
    pub config: Arc<BTreeMap<String, String>>,
    /// When its wall time began.
    pub started: Instant,
    /// When its wall time ends.
    pub deadline: Instant,
    /// Cancelled once somebody asked the execution to stop.
    pub cancellation: CancellationToken,
}

impl Scope {
    /// Wall time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The namespace that this execution's traces and objects are kept under: the session, else `default`.
    pub fn project(&self) -> &str {
        self.session.as_ref().map_or("default", Name::as_str)
    }
}
