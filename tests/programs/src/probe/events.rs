//! Actions on `events`.

use holm_guest::events::{self, Level};
use serde_json::{Value, json};

use crate::Outcome;

pub fn emit(kind: &str, payload: &Value) -> Outcome {
    Ok(json!(events::emit(kind, payload)?))
}

pub fn progress(done: u64, total: Option<u64>, message: &str) -> Outcome {
    Ok(json!(events::progress(done, total, message)?))
}

pub fn log(level: &str, message: &str) -> Outcome {
    let level = match level {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => return Err(format!("no level `{level}`")),
    };
    Ok(json!(events::log(level, message)?))
}
