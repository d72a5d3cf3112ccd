//! May it run, and is there room: asked before anything is compiled or opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_host_api::{BudgetName, CapabilitySet, Grants, HostError, Name, wasi};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::{Allocation, TABLES_PER_MEMORY};
use crate::execution::ExecutionRequest;
use crate::workload::inspect::Footprint;
use crate::workload::{IntakeError, check_imports, matches};

/// Types that the interfaces share: it has nothing to call.
const TYPES: &str = "holm:host/types@0.1.0";

/// Room for a number of executions at one time, and for the memories of all.
pub(crate) struct Admission {
    room: Arc<Semaphore>,
    executions_max: usize,
    memories: Arc<Semaphore>,
    memories_max: usize,
    /// The lines of the users who wait. Whoever is first in the line of its user waits for room.
    lines: Mutex<HashMap<Name, Line>>,
}

type Line = Arc<tokio::sync::Mutex<()>>;

/// A place in the line of a user, which is gone with the last place in it.
struct InLine<'a> {
    admission: &'a Admission,
    user: &'a Name,
    line: Option<Line>,
}

/// One execution's place. It is free again when this is dropped.
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
    _memories: OwnedSemaphorePermit,
}

/// Why an execution does not start, in a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Import(#[from] IntakeError),
    #[error("the input has {bytes} bytes, the budget input_bytes allows {limit}")]
    InputTooLarge { bytes: usize, limit: u64 },
    #[error("the input is not UTF-8 at byte {at}; a workload with an entry point takes text")]
    InputNotText { at: usize },
    #[error("the workload may not have a scratch folder: `{}` is not granted", wasi::SCRATCH_GRANT)]
    ScratchNotGranted,
    #[error("an execution with the id {0} is under way")]
    IdInUse(uuid::Uuid),
}

impl Admission {
    pub(crate) fn new(allocation: Allocation, executions_max: u32) -> Self {
        let (executions_max, memories_max) = match allocation {
            Allocation::Pooled { executions_max, memories_max } => (executions_max as usize, memories_max as usize),
            Allocation::OnDemand => (executions_max as usize, Semaphore::MAX_PERMITS),
        };
        let room = |places| Arc::new(Semaphore::new(places));
        Admission {
            room: room(executions_max),
            executions_max,
            memories: room(memories_max),
            memories_max,
            lines: Mutex::default(),
        }
    }

    /// Waits for room. Users take turns: of each only one execution is in the line for all, so that a user who asks for
    /// a thousand places holds up another no longer than one who asks for one. Who needs many memories waits for them
    /// here, so that nobody's instance finds the pool empty.
    pub(crate) async fn wait(&self, user: &Name, needs: &Footprint) -> Result<Permit, HostError> {
        let closed = |closed| HostError::new("the runtime is shutting down").because(closed);
        let memories = needs.memories.max(needs.tables.div_ceil(TABLES_PER_MEMORY.into())).max(1);
        let memories = u32::try_from(memories.min(self.memories_max as u64)).unwrap_or(u32::MAX);
        if let Some(permit) = self.at_once(memories) {
            return Ok(permit);
        }
        let in_line = self.line_up(user);
        let _first_of_user = match &in_line.line {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        let memories = Arc::clone(&self.memories).acquire_many_owned(memories).await.map_err(closed)?;
        let place = Arc::clone(&self.room).acquire_owned().await.map_err(closed)?;
        Ok(Permit { _place: place, _memories: memories })
    }

    /// Room that nobody waits for: what is given back goes to who waits first.
    fn at_once(&self, memories: u32) -> Option<Permit> {
        let memories = Arc::clone(&self.memories).try_acquire_many_owned(memories).ok()?;
        let place = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Permit { _place: place, _memories: memories })
    }

    fn line_up<'a>(&'a self, user: &'a Name) -> InLine<'a> {
        let line = Arc::clone(self.lines().entry(user.clone()).or_default());
        InLine { admission: self, user, line: Some(line) }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that are taken now.
    pub(crate) fn taken(&self) -> usize {
        self.executions_max.saturating_sub(self.room.available_permits())
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        // Both under the lock: nobody joins a line that is about to go.
        let mut lines = self.admission.lines();
        self.line = None;
        if lines.get(self.user).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(self.user);
        }
    }
}

/// Checks what a request asks for against what it is granted.
pub(crate) fn check(request: &ExecutionRequest, capabilities: &CapabilitySet) -> Result<(), Refusal> {
    let inspection = request.workload.inspection();
    let offered = |import: &str| is_granted(&Grants::all(), capabilities, import);
    check_imports(inspection, offered, |import| is_granted(&request.grants, capabilities, import))?;
    if request.wasi.scratch.is_some() && !request.grants.allows_import(wasi::SCRATCH_GRANT) {
        return Err(Refusal::ScratchNotGranted);
    }
    let limit = request.budget.limit(BudgetName::InputBytes);
    if request.input.len() as u64 > limit {
        return Err(Refusal::InputTooLarge { bytes: request.input.len(), limit });
    }
    if inspection.shape == crate::workload::Shape::Workload
        && let Err(error) = std::str::from_utf8(&request.input)
    {
        return Err(Refusal::InputNotText { at: error.valid_up_to() });
    }
    Ok(())
}

fn is_granted(grants: &Grants, capabilities: &CapabilitySet, import: &str) -> bool {
    if import.starts_with("wasi:") {
        return wasi::INTERFACES.iter().any(|interface| matches(interface, import));
    }
    if matches(TYPES, import) {
        return true;
    }
    capabilities.iter().any(|capability| {
        (!capability.needs_grant() || grants.allows_import(capability.name()))
            && capability.interfaces().iter().any(|interface| matches(interface, import))
    })
}
