//! What a caller asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use holm_host_api::wasi::WasiSettings;
use holm_host_api::{Budget, Grants, Name};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::workload::Workload;

/// A request with what the pipeline adds to it.
pub(crate) struct Asked {
    pub(crate) request: ExecutionRequest,
    pub(crate) at: SystemTime,
    /// Cancelled with the caller's own, and never the other way round: that may be many executions'.
    pub(crate) cancellation: CancellationToken,
}

impl Asked {
    pub(crate) fn now(request: ExecutionRequest) -> Arc<Self> {
        let cancellation = request.cancellation.child_token();
        Arc::new(Asked { request, at: SystemTime::now(), cancellation })
    }
}

/// One execution that a caller asks for. Everything in it comes from the caller; nothing is read from
/// the environment.
#[derive(Clone, Debug)]
pub struct ExecutionRequest {
    /// Its id, a UUIDv7: made with the request, so that a caller can watch for its events.
    pub execution: Uuid,
    /// Who it is for.
    pub user: Name,
    /// What runs.
    pub workload: Workload,
    /// The session that it belongs to.
    pub session: Option<Name>,
    /// The program of the session.
    pub program: Option<Name>,
    /// The profile of the user's context.
    pub profile: Option<Name>,
    /// What the workload gets: its argument, or a command's stdin.
    pub input: Bytes,
    /// The configuration that the guest reads by key.
    pub config: Arc<BTreeMap<String, String>>,
    /// What it may import and call.
    pub grants: Arc<Grants>,
    /// What it may use.
    pub budget: Budget,
    /// Arguments, environment and folders.
    pub wasi: WasiSettings,
    /// Cancelling it asks the execution to stop. One token may be several executions'.
    pub cancellation: CancellationToken,
    /// How many host calls to keep in the journal; none by default.
    pub journal_entries_max: usize,
}

impl ExecutionRequest {
    /// Asks for a workload to be run for a user, with no input, every grant and the default budget.
    pub fn new(user: Name, workload: Workload) -> Self {
        ExecutionRequest {
            execution: Uuid::now_v7(),
            user,
            workload,
            session: None,
            program: None,
            profile: None,
            input: Bytes::new(),
            config: Arc::default(),
            grants: Arc::new(Grants::all()),
            budget: Budget::default(),
            wasi: WasiSettings::default(),
            cancellation: CancellationToken::new(),
            journal_entries_max: 0,
        }
    }

    /// The same with an input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Bytes>) -> Self {
        self.input = input.into();
        self
    }

    /// The same with a budget.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same with grants.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Arc::new(grants);
        self
    }

    /// The same with a configuration.
    #[must_use]
    pub fn config(mut self, config: BTreeMap<String, String>) -> Self {
        self.config = Arc::new(config);
        self
    }
}
