//! Actions on `execution`.

use std::time::Duration;

use holm_guest::execution;
use serde_json::{Value, json};

pub fn identity() -> Value {
    let identity = execution::identity();
    json!({
        "execution": identity.execution,
        "user": identity.user,
        "session": identity.session,
        "program": identity.program,
        "profile": identity.profile,
        "workload": identity.workload,
    })
}

pub fn remaining() -> Value {
    let remaining = execution::remaining();
    json!({
        "fuel": remaining.fuel,
        "wall_ms": remaining.wall_ms,
        "memory_bytes": remaining.memory_bytes,
        "host_calls": remaining.host_calls,
        "llm_tokens": remaining.llm_tokens,
        "llm_cost_microusd": remaining.llm_cost_microusd,
    })
}

/// Returns how often it looked.
pub fn wait_cancel() -> Value {
    let mut looks = 1;
    while !execution::is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
        looks += 1;
    }
    json!({ "cancelled": true, "looks": looks })
}
