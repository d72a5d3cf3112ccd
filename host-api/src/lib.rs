//! The host functions of Holm: what an execution can ask of the host, and the gate that it asks through.
//!
//! A capability is a room: its contract ([WIT](../wit)), its host functions, the trait that a backend
//! implements and a deterministic backend. Rooms do not know of each other; the runtime does not know
//! what they do. Nothing here knows of the runtime.

pub mod bindings;
mod budget;
mod capability;
mod capability_set;
mod error;
pub mod events;
pub mod execution;
#[cfg(test)]
mod fixture;
mod grants;
mod host_call;
mod journal;
pub mod llm;
mod name;
mod outcome;
mod sanitize;
mod scope;
mod state;
pub mod trace;
pub mod wasi;

/// What a capability of one's own is written with, in the versions that it must have.
pub use futures::future::BoxFuture;
pub use wasmtime;

pub use budget::{Budget, BudgetName, Counting, Exhausted, Meter, UnknownBudget};
pub use capability::{Capability, CapabilityContext};
pub use capability_set::{CapabilitySet, DuplicateCapability, FinishReport, OpenCapability, finish};
pub use error::{Denied, HostError};
pub use events::Level;
pub use grants::{Grant, Grants, InvalidGrant};
pub use host_call::{CallObserver, Gate, HostCall, LogSink, ObservedCall};
pub use journal::{Journal, JournalEntry};
pub use name::{InvalidName, Name};
pub use outcome::{Ending, Outcome};
pub use sanitize::{sanitize_line, sanitize_text};
pub use scope::Scope;
pub use state::{FUEL_YIELD_INTERVAL, HasView, State, View, settle_host_call};
