//! Who this execution belongs to, how it is configured, and what it may still spend.

use serde::de::DeserializeOwned;

use crate::bindings::holm::host::execution as host;
use crate::{Result, json};

pub use host::{Identity, Remaining};

/// Who this execution belongs to. The host fills it; a workload cannot change it.
pub fn identity() -> Identity {
    host::get_identity()
}

/// What is left of each budget; `None` is unlimited.
pub fn remaining() -> Remaining {
    host::get_remaining()
}

/// A value of the program's configuration, as text.
pub fn config(key: &str) -> Option<String> {
    host::get_config(key)
}

/// A value of the program's configuration as a `T`, read as [`entry!`](crate::entry!) reads an input.
///
/// ```no_run
/// # use holm_guest::execution;
/// let rounds = execution::config_as("rounds")?.unwrap_or(3);
/// # let _: u32 = rounds;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn config_as<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    config(key).map(|value| json::read(&format!("configuration key `{key}`"), &value)).transpose()
}

/// True once the caller asked this execution to stop. A polite workload looks between steps and returns early.
pub fn is_cancelled() -> bool {
    host::is_cancelled()
}
