//! How an execution ended.

use serde::{Deserialize, Serialize};

use crate::Exhausted;

/// How an execution ended: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The workload returned its output, or the command exited with status 0.
    Completed,
    /// The workload returned an error, or the command exited with another status.
    GuestError,
    /// The guest did what Wasm does not allow: `unreachable`, a bad pointer, endless recursion.
    Trapped,
    /// A budget ran out.
    BudgetExceeded(Exhausted),
    /// It never started: what was asked is not allowed or makes no sense.
    Refused,
    /// Somebody asked it to stop.
    Cancelled,
    /// The host failed. It is not the workload's fault.
    HostError,
}

impl Outcome {
    /// The name in records and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::GuestError => "guest_error",
            Outcome::Trapped => "trapped",
            Outcome::BudgetExceeded(_) => "budget_exceeded",
            Outcome::Refused => "refused",
            Outcome::Cancelled => "cancelled",
            Outcome::HostError => "host_error",
        }
    }
}

/// The end of an execution, as its capabilities are told it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// What the workload returned or wrote, byte for byte.
    pub output: Vec<u8>,
    /// What went wrong, for the user.
    pub error: Option<String>,
}

impl Ending {
    /// An ending without output or error.
    pub fn of(outcome: Outcome) -> Self {
        Ending { outcome, output: Vec::new(), error: None }
    }
}
