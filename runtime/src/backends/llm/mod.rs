//! The router: each execution has its own, built from a configuration that does not change under it.

mod attempt;
mod backend;
mod cache;
mod config;
mod failed;
mod pricing;
mod protocol;
mod provider;
mod router;
mod secret;
mod wire;

pub use backend::{ConfigsByUser, Providers, RouterConfigs};
pub use config::{CacheMode, InvalidSettings, LlmSettings, Primary, Retries, RouterConfig, Target, Timeouts};
pub use pricing::{InvalidPrices, Model, PriceTable};
pub use provider::{Addresses, Credentials, ModelPattern, Provider, ProviderKind};
pub use secret::Secret;

use backend::Shared;
