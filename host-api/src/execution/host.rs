//! What the guest sees of its own execution. None of these functions needs a grant, and none fails.

use serde_json::{Value, json};

use super::ExecutionContext;
use super::bindings::execution::{Host, Identity, Remaining};
use crate::{Budget, BudgetName, View};

impl Host for View<'_, ExecutionContext> {
    /// The guest sees the names that the host gave it, and no other.
    fn get_identity(&mut self) -> wasmtime::Result<Identity> {
        let call = self.gate().enter_granted("execution", "get-identity")?;
        let scope = self.gate().scope();
        let identity = Identity {
            execution: scope.execution.to_string(),
            user: scope.user.to_string(),
            session: scope.session.as_ref().map(ToString::to_string),
            program: scope.program.as_ref().map(ToString::to_string),
            profile: scope.profile.as_ref().map(ToString::to_string),
            workload: scope.workload.to_string(),
        };
        Ok(call.answer(identity, identity_view))
    }

    /// The guest sees what is left now; fuel as of this call.
    fn get_remaining(&mut self) -> wasmtime::Result<Remaining> {
        let call = self.gate().enter_granted("execution", "get-remaining")?;
        let fuel_left = self.fuel_left();
        let scope = self.gate().scope();
        let meter = self.gate().meter();
        let elapsed_ms = u64::try_from(scope.elapsed().as_millis()).unwrap_or(u64::MAX);
        let limited = |name: BudgetName, left: u64| (meter.limit(name) != Budget::UNLIMITED).then_some(left);
        let wall_ms_max = meter.limit(BudgetName::WallMs);
        let remaining = Remaining {
            fuel: limited(BudgetName::Fuel, fuel_left.saturating_sub(meter.fuel_owed())),
            wall_ms: limited(BudgetName::WallMs, wall_ms_max.saturating_sub(elapsed_ms)),
            memory_bytes: meter.left(BudgetName::MemoryBytes),
            host_calls: meter.left(BudgetName::HostCalls),
            llm_tokens: meter.left(BudgetName::LlmTokens),
            llm_cost_microusd: meter.left(BudgetName::LlmCostMicrousd),
        };
        Ok(call.answer(remaining, remaining_view))
    }

    /// The guest sees `none` for a key that the caller did not configure.
    fn get_config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let call = self.gate().enter_granted("execution", "get-config")?;
        let value = self.gate().scope().config.get(&key).cloned();
        call.moves(key.len() + value.as_ref().map_or(0, String::len));
        Ok(call.answer(value, |value| json!(value)))
    }

    /// The guest sees `true` from the moment somebody asked the execution to stop.
    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        let call = self.gate().enter_granted("execution", "is-cancelled")?;
        Ok(call.answer(self.gate().scope().cancellation.is_cancelled(), |cancelled| json!(cancelled)))
    }
}

fn identity_view(identity: &Identity) -> Value {
    let Identity { execution, user, session, program, profile, workload } = identity;
    json!({
        "execution": execution,
        "user": user,
        "session": session,
        "program": program,
        "profile": profile,
        "workload": workload,
    })
}

fn remaining_view(remaining: &Remaining) -> Value {
    json!({
        "fuel": remaining.fuel,
        "wall_ms": remaining.wall_ms,
        "memory_bytes": remaining.memory_bytes,
        "host_calls": remaining.host_calls,
        "llm_tokens": remaining.llm_tokens,
        "llm_cost_microusd": remaining.llm_cost_microusd,
    })
}
