//! Write workloads for Holm, the WebAssembly sandbox runtime for LLM workloads.
//!
//! A workload is a function from one value to another. Each execution of it runs in a fresh instance, and reaches
//! the world through this crate alone: models, the trace, events, and what it may know of its own execution.
//!
//! ```
//! use holm_guest::{Result, events, llm, trace};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     question: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     answer: String,
//! }
//!
//! holm_guest::entry!(run);
//!
//! fn run(input: Input) -> Result<Output> {
//!     events::progress(0, 1, "asking")?;
//!     trace::scope("answer", &input.question, |_call| {
//!         let response = llm::request().user(&input.question).max_tokens(500).send()?;
//!         Ok(Output { answer: response.text() })
//!     })
//! }
//! # fn main() {}
//! ```
//!
//! ```toml
//! [package]
//! name = "answer"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! holm-guest = { path = "…/guest-sdk" } # in a checkout of Holm
//! serde = { version = "1", features = ["derive"] }
//!
//! [profile.release]
//! opt-level = "s"
//! lto = true
//! strip = true
//! panic = "abort"
//! codegen-units = 1
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes a component of it, `target/wasm32-wasip2/release/answer.wasm`,
//! which `runtime exec` runs. A panic is logged with its place; without `strip` a trap names the functions too.
//!
//! A workload imports only what it uses, and each import needs a grant. Of this crate's modules every workload
//! imports [`events`], which takes the message of a panic. What is refused or runs out is an [`Error`] like any
//! other: `not granted: llm`, `budget exceeded: llm_tokens, limit 10000, used 10000`.

mod entry;
mod error;
pub mod events;
pub mod execution;
mod json;
pub mod llm;
pub mod trace;

/// What the WIT files say, in Rust; written by `generate.sh`.
#[allow(missing_docs, unsafe_code, clippy::all)]
#[doc(hidden)]
#[rustfmt::skip]
pub mod bindings;

pub use entry::{Input, Output, Text};
pub use error::{Error, Result};

/// What the macros expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::entry::invoke;
    pub use crate::events::macros::log;
}
