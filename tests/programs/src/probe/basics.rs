//! Actions that need nothing of the host.

use std::sync::atomic::{AtomicU64, Ordering};

pub fn message() -> String {
    "on purpose".into()
}

/// More than 1 would mean that an instance was used twice.
pub fn counter() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) + 1
}
