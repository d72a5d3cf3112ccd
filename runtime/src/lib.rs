//! Holm runs each execution of a workload in a WebAssembly instance of its own.
//!
//! ```no_run
//! use holm_runtime::{ExecutionRequest, Runtime};
//!
//! # async fn run(bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::builder().build()?;
//! let workload = runtime.intake(bytes)?;
//! let execution = runtime.execute(ExecutionRequest::new("alice".parse()?, workload).input("hello")).await;
//! println!("{:?}: {}", execution.record.outcome, String::from_utf8_lossy(&execution.output));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "providers")]
pub mod backends;
mod builder;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "providers")]
pub mod config;
mod engine;
mod execution;
mod runtime;
mod user;
pub mod workload;

pub use builder::RuntimeBuilder;
pub use engine::Allocation;
pub use execution::{Execution, ExecutionRequest, Live, Record, Usage, WorkloadRecord};
pub use holm_host_api as host_api;
pub use runtime::{Held, Runtime};
pub use workload::{CompileIn, CompileLimits, CompilerCommand, compile_worker};
