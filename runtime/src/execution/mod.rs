//! One execution: what is asked, how it runs, how it ends, what is kept of it.

mod classify;
mod finish;
mod instantiate;
mod invoke;
mod record;
mod registry;
mod request;
mod scratch;
mod turns;

pub use record::{Execution, Record, Usage, WorkloadRecord};
pub use registry::Live;
pub(crate) use registry::{Registered, Registry};
pub(crate) use request::Asked;
pub use request::ExecutionRequest;

pub(crate) use instantiate::{Instantiated, instantiate};
pub(crate) use scratch::ScratchRoot;
pub(crate) use turns::Turns;
