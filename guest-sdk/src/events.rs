//! What the caller sees while the execution is under way.

use serde::Serialize;

use crate::bindings::holm::host::events as host;
use crate::{Result, json};

pub use host::Level;

/// Sends an event of the workload's own kind, with a payload written as JSON.
///
/// ```no_run
/// # use holm_guest::events;
/// # use serde_json::json;
/// events::emit("chapter", &json!({ "number": 3, "title": "Tea" }))?;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn emit<T: Serialize + ?Sized>(kind: &str, payload: &T) -> Result<()> {
    Ok(host::emit(kind, &json::write(kind, payload)?)?)
}

/// Says how far the work has come: `done` of `total`, which may be `None` where the end is not known.
///
/// ```no_run
/// # use holm_guest::events;
/// events::progress(3, 10, "third case")?;
/// events::progress(3, None, "three so far")?;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn progress(done: u64, total: impl Into<Option<u64>>, message: &str) -> Result<()> {
    Ok(host::progress(done, total.into(), message)?)
}

/// Writes a line to the execution's log. The macros [`debug!`](crate::debug!), [`info!`](crate::info!),
/// [`warn!`](crate::warn!) and [`error!`](crate::error!) format the message and ignore a denial.
pub fn log(level: Level, message: &str) -> Result<()> {
    Ok(host::log(level, message)?)
}

/// Logs at debug level, with the arguments of [`format!`]. A line that is denied is left out.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::__private::log($crate::events::Level::Debug, ::std::format_args!($($arg)+)) };
}

/// Logs at info level, with the arguments of [`format!`]. A line that is denied is left out.
///
/// ```no_run
/// let cases = 3;
/// holm_guest::info!("{cases} cases to go");
/// ```
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::__private::log($crate::events::Level::Info, ::std::format_args!($($arg)+)) };
}

/// Logs at warn level, with the arguments of [`format!`]. A line that is denied is left out.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::__private::log($crate::events::Level::Warn, ::std::format_args!($($arg)+)) };
}

/// Logs at error level, with the arguments of [`format!`]. A line that is denied is left out.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::__private::log($crate::events::Level::Error, ::std::format_args!($($arg)+)) };
}

/// What the macros expand to.
pub(crate) mod macros {
    use std::fmt::Arguments;

    use super::Level;

    /// Logs without failing.
    pub fn log(level: Level, message: Arguments<'_>) {
        // A workload must not fail because of a log line.
        let _ = super::log(level, &message.to_string());
    }
}
