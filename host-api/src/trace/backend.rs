//! What a backend for traces implements, and the plain types that it gets.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Json, Reference};
use crate::{Denied, HostError, Outcome, Scope};

/// The id of a call.
///
/// The root call of an execution has the execution's id, and the ids of the others count up from it: they
/// cost no random bytes, sort by start, and stay unique because the end of a UUIDv7 is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub Uuid);

impl CallId {
    /// The id of the root call of an execution.
    pub fn root(execution: Uuid) -> Self {
        CallId(execution)
    }

    /// The id of the call that was started as the `number`th, counted from 1, under this root call.
    pub(super) fn nth(self, number: u64) -> Self {
        /// The 62 bits behind the version and the variant, which are not ours to change.
        const COUNTED: u128 = (1 << 62) - 1;
        let id = self.0.as_u128();
        let counted = id.wrapping_add(u128::from(number)) & COUNTED;
        CallId(Uuid::from_u128(id & !COUNTED | counted))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who made a call. What a guest says of its own calls, such as tokens used, is only a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// The root call of an execution.
    Execution,
    /// A call that the guest started.
    Guest,
    /// A call to the host, which the host recorded by itself.
    Host,
}

/// How far a call is, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// It has not ended. No [`CallEnd`] has it.
    Open,
    /// It ended with an output.
    Ok,
    /// It ended with an error.
    Error,
    /// Whoever started it gave it up, or left it open.
    Abandoned,
    /// The execution was cancelled under it.
    Cancelled,
    /// The guest trapped under it.
    Trapped,
    /// A budget of the execution ran out under it.
    BudgetExceeded,
    /// The host failed under it.
    HostError,
}

impl CallStatus {
    /// The status of a call that was still open when the execution ended.
    pub fn left_open(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed | Outcome::GuestError | Outcome::Refused => CallStatus::Abandoned,
            Outcome::Trapped => CallStatus::Trapped,
            Outcome::BudgetExceeded(_) => CallStatus::BudgetExceeded,
            Outcome::Cancelled => CallStatus::Cancelled,
            Outcome::HostError => CallStatus::HostError,
        }
    }

    /// The status of the root call of an execution that ended.
    pub fn of_root(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed => CallStatus::Ok,
            Outcome::GuestError | Outcome::Refused => CallStatus::Error,
            _ => CallStatus::left_open(outcome),
        }
    }

    /// The name in JSON and in print.
    pub fn as_str(self) -> &'static str {
        match self {
            CallStatus::Open => "open",
            CallStatus::Ok => "ok",
            CallStatus::Error => "error",
            CallStatus::Abandoned => "abandoned",
            CallStatus::Cancelled => "cancelled",
            CallStatus::Trapped => "trapped",
            CallStatus::BudgetExceeded => "budget_exceeded",
            CallStatus::HostError => "host_error",
        }
    }
}

/// A call begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStart {
    /// Its id.
    pub id: CallId,
    /// The call that it is part of; `None` for the root call.
    pub parent: Option<CallId>,
    /// Who made it.
    pub kind: CallKind,
    /// What is done. A guest's own text, unless the call is the host's.
    pub operation: Cow<'static, str>,
    /// What it is done with.
    pub inputs: Json,
    /// When it began. Times of one execution come from one steady clock.
    pub started_at: SystemTime,
}

/// A call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// Its id.
    pub id: CallId,
    /// When it ended.
    pub ended_at: SystemTime,
    /// How it ended.
    pub status: CallStatus,
    /// What came of it.
    pub output: Option<Json>,
    /// What went wrong.
    pub error: Option<String>,
    /// What is to be known of it besides. They replace earlier ones with equal keys.
    pub attributes: Vec<(String, Json)>,
}

/// A score, reaction or note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Feedback {
    /// The workload's name for it.
    pub kind: String,
    /// What it says.
    pub payload: Json,
}

/// A trace backend cannot do what was asked. The text is for the user: it names no path, address or other user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing, or it is another user's: the two cannot be told apart.
    #[error("{0}")]
    NotFound(String),
    /// The backend cannot do it now.
    #[error("{0}")]
    Unavailable(String),
}

impl TraceError {
    /// Nothing of this user's has this reference. One sentence for every reason, so that it gives none away.
    pub fn not_found(reference: &Reference) -> Self {
        TraceError::NotFound(format!("`{reference}` does not exist"))
    }
}

impl From<TraceError> for Denied {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Invalid(what) | TraceError::NotFound(what) => Denied::Invalid(what),
            TraceError::Unavailable(what) => Denied::Unavailable(what),
        }
    }
}

impl From<TraceError> for HostError {
    fn from(error: TraceError) -> Self {
        HostError::new(error.to_string())
    }
}

/// Keeps the traces of all executions.
pub trait TraceBackend: Send + Sync + 'static {
    /// Opens the sink of one execution. Whose it is comes from `scope` alone.
    ///
    /// # Errors
    /// The backend cannot keep traces now.
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn TraceSink>, TraceError>;
}

/// Takes the trace of one execution, and its objects and feedback.
///
/// `start`, `attribute` and `end` are called under a lock, in the order of what happened, and exactly one
/// `end` follows each `start`. They never block and never fail visibly: a sink that is full drops, and says
/// so to its reader. The host bounds what comes by the execution's budgets.
pub trait TraceSink: Send + Sync + 'static {
    /// A call begins.
    fn start(&self, call: CallStart);

    /// Something is to be known of an open call. It replaces an earlier attribute with an equal key.
    fn attribute(&self, call: CallId, key: String, value: Json);

    /// A call ends.
    fn end(&self, call: CallEnd);

    /// Keeps a version of an object. The reference is the execution's own user's and says what the value's
    /// digest is. Publishing the same again changes nothing.
    ///
    /// # Errors
    /// The backend cannot keep it.
    fn publish(&self, reference: Reference, value: Json) -> BoxFuture<'static, Result<(), TraceError>>;

    /// Reads a version of an object.
    ///
    /// # Errors
    /// [`TraceError::not_found`] unless it exists and is the execution's own user's.
    fn resolve(&self, reference: Reference) -> BoxFuture<'static, Result<Json, TraceError>>;

    /// Keeps feedback on a call or a version of an object.
    ///
    /// # Errors
    /// [`TraceError::not_found`] unless it exists and is the execution's own user's; or the backend cannot
    /// keep it.
    fn feedback(&self, reference: Reference, feedback: Feedback) -> BoxFuture<'static, Result<(), TraceError>>;

    /// Hands over all that it took: what was flushed can be read.
    ///
    /// # Errors
    /// Some of it is lost.
    fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_and_stay_of_their_version() {
        let root = CallId(Uuid::from_u128(0x019a_0000_0000_7abc_bfff_ffff_ffff_fffe));
        assert_eq!(root.nth(1).0.as_u128() & 0xf, 0xf);
        let wrapped = root.nth(2).0;
        assert_eq!(wrapped.as_u128(), 0x019a_0000_0000_7abc_8000_0000_0000_0000);
        assert_eq!((wrapped.get_version_num(), wrapped.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn statuses_have_one_name() {
        for status in [CallStatus::Open, CallStatus::BudgetExceeded, CallStatus::HostError, CallStatus::Ok] {
            assert_eq!(serde_json::to_value(status).ok().as_ref().and_then(|v| v.as_str()), Some(status.as_str()));
        }
    }
}
