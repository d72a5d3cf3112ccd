//! What the guest sees of its own execution. None of these functions fails or traps.

use super::ExecutionContext;
use super::bindings::execution::{Host, Identity, Remaining};
use crate::{Budget, BudgetName, View};

impl Host for View<'_, ExecutionContext> {
    /// The guest sees the names that the host gave it, and no other.
    fn get_identity(&mut self) -> wasmtime::Result<Identity> {
        let scope = self.gate().scope();
        Ok(Identity {
            execution: scope.execution.to_string(),
            user: scope.user.to_string(),
            session: scope.session.as_ref().map(ToString::to_string),
            program: scope.program.as_ref().map(ToString::to_string),
            profile: scope.profile.as_ref().map(ToString::to_string),
            workload: scope.workload.to_string(),
        })
    }

    /// The guest sees what is left now; fuel as of this call.
    fn get_remaining(&mut self) -> wasmtime::Result<Remaining> {
        let fuel_left = self.fuel_left();
        let scope = self.gate().scope();
        let meter = self.gate().meter();
        let elapsed_ms = u64::try_from(scope.elapsed().as_millis()).unwrap_or(u64::MAX);
        let limited = |name: BudgetName, left: u64| (meter.budget().limit(name) != Budget::UNLIMITED).then_some(left);
        let wall_ms_max = meter.budget().limit(BudgetName::WallMs);
        Ok(Remaining {
            fuel: limited(BudgetName::Fuel, fuel_left.saturating_sub(meter.fuel_owed())),
            wall_ms: limited(BudgetName::WallMs, wall_ms_max.saturating_sub(elapsed_ms)),
            memory_bytes: meter.left(BudgetName::MemoryBytes),
            host_calls: meter.left(BudgetName::HostCalls),
            llm_tokens: meter.left(BudgetName::LlmTokens),
            llm_cost_microusd: meter.left(BudgetName::LlmCostMicrousd),
        })
    }

    /// The guest sees `none` for a key that the caller did not configure.
    fn get_config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let value = self.gate().scope().config.get(&key).cloned();
        self.gate().meter().owe_fuel((key.len() + value.as_ref().map_or(0, String::len)) as u64);
        Ok(value)
    }

    /// The guest sees `true` from the moment somebody asked the execution to stop.
    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.gate().scope().cancellation.is_cancelled())
    }
}
