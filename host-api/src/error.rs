//! Errors of host calls: a denial is a value that the guest sees; a host error ends the execution.

use std::fmt;
use std::sync::Arc;

use crate::{Exhausted, bindings};

/// Why a host call was denied. The guest sees it as a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The grants do not include it.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// A budget ran out.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The arguments make no sense.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The service behind the capability cannot answer.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The deadline passed while the call waited.
    #[error("timed out")]
    TimedOut,
    /// The execution was asked to stop while the call waited.
    #[error("cancelled")]
    Cancelled,
}

impl From<Denied> for bindings::types::Denied {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotGranted(what) => Self::NotGranted(what),
            Denied::Exhausted(Exhausted { budget, limit, used }) => {
                Self::Exhausted(bindings::types::Exhausted { budget: budget.as_str().to_owned(), limit, used })
            }
            Denied::Invalid(what) => Self::Invalid(what),
            Denied::Unavailable(what) => Self::Unavailable(what),
            Denied::TimedOut => Self::TimedOut,
            Denied::Cancelled => Self::Cancelled,
        }
    }
}

/// A failure of the host itself: what the user is told and, apart from it, the cause for the operator.
#[derive(Clone)]
pub struct HostError {
    message: String,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl HostError {
    /// `message` goes to the user: it names no path, address, key or other user.
    pub fn new(message: impl Into<String>) -> Self {
        HostError { message: message.into(), cause: None }
    }

    /// Adds the cause, which only the operator sees.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into().into());
        self
    }

    /// For the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// For the operator: the chain of causes in one line.
    pub fn cause(&self) -> Option<String> {
        let mut error: &dyn std::error::Error = self.cause.as_deref()?;
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        Some(text)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostError").field("message", &self.message).field("cause", &self.cause()).finish()
    }
}

/// No `source`: printing the chain of a [`HostError`] must not show the user what is for the operator.
impl std::error::Error for HostError {}
