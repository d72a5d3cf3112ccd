//! The executions under way: who they belong to, and how to ask them to stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holm_host_api::Name;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An execution under way.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its id.
    pub execution: Uuid,
    /// Who it belongs to.
    pub user: Name,
    cancellation: CancellationToken,
}

/// All executions under way.
#[derive(Default)]
pub(crate) struct Registry {
    live: Mutex<HashMap<Uuid, Live>>,
}

/// An execution is in the registry as long as this lives.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    execution: Uuid,
}

impl Registry {
    /// Enters an execution, unless one of this id is under way.
    pub(crate) fn enter(
        self: &Arc<Self>,
        execution: Uuid,
        user: &Name,
        cancellation: &CancellationToken,
    ) -> Option<Registered> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.contains_key(&execution) {
            return None;
        }
        live.insert(execution, Live { execution, user: user.clone(), cancellation: cancellation.clone() });
        Some(Registered { registry: Arc::clone(self), execution })
    }

    /// Asks a user's execution to stop. False if the user has none of this id.
    pub(crate) fn cancel(&self, user: &Name, execution: Uuid) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match live.get(&execution) {
            Some(found) if found.user == *user => {
                found.cancellation.cancel();
                true
            }
            _ => false,
        }
    }

    /// A copy of what is under way.
    pub(crate) fn list(&self) -> Vec<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.execution);
    }
}
