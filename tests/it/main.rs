//! All tests that need a whole runtime, in one binary.
//!
//! | file | what it shows |
//! |---|---|
//! | `outcomes` | every way an execution can end, named right, beside a neighbour that runs on |
//! | `budgets` | every budget is enforced and named |
//! | `isolation` | nothing of one execution is in another, and nothing is left after it |
//! | `lifecycle` | capabilities finish in reverse order on every outcome, also when a backend hangs or panics |
//! | `llm` | the router: who is asked, with whose key, and who next |
//! | `rooms` | what guests see of each capability |
//! | `scratch` | a scratch folder's quota, its walls, and that it goes |
//! | `security` | attacks: of each class of them many, beside a neighbour that goes on |
//! | `wasi` | stdio, arguments, environment and folders |
//! | `cache` | compiled code on disk: what is not ours is not run |
//! | `compile` | a child compiles: bounded, once, and it never outlives its parent |
//! | `examples` | the example workloads, and that they are not older than their sources |
//! | `cli` | the command, end to end |
//! | `golden` | help, limits, record and contract are what they were |
//! | `environment` | no environment variable is read after start or ever written |

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

mod budgets;
mod cache;
mod cli;
mod command;
mod compile;
mod environment;
mod examples;
mod golden;
mod isolation;
mod lifecycle;
mod llm;
mod outcomes;
mod rooms;
mod scratch;
mod security;
mod support;
mod wasi;
