//! The router: each execution has its own, built from a configuration that does not change under it.

#![allow(dead_code, unused)]

mod config;
mod protocol;
mod provider;
mod secret;
mod wire;

pub use config::Timeouts;
pub use provider::{Addresses, Credentials, ModelPattern, Provider, ProviderKind};
pub use secret::Secret;
