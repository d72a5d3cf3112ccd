//! The router, from a guest to servers that speak as providers do.

mod abuse;
mod hostile;
mod isolation;
mod peak;
mod peers;
mod raw;
mod routing;
pub mod server;

use std::collections::HashMap;
use std::sync::Arc;

use holm_runtime::backends::llm::{
    LlmSettings, Primary, Provider, ProviderKind, Providers, Retries, RouterConfig, Target,
};
use serde_json::{Value, json};

use crate::support::Host;
use server::Server;

/// Settings whose first provider is asked first, and that wait for nothing long.
fn settings(providers: Vec<Provider>) -> LlmSettings {
    let first = Target { provider: providers[0].name.clone(), model: None };
    LlmSettings {
        providers,
        primary: Primary::Target(first),
        retries: Retries { max: 2, base_ms: 1, wait_ms_max: 50 },
        ..LlmSettings::default()
    }
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// A runtime whose executions all have these settings.
fn host(settings: LlmSettings) -> Host {
    let config = Arc::new(RouterConfig::new(settings).unwrap());
    Host::with(|builder| builder.llm(Providers::new(config).unwrap()))
}

fn ask(prompt: &str) -> Value {
    json!({ "do": "llm", "prompt": prompt })
}
