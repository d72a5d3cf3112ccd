//! The one place that configures wasmtime.

use std::hash::{Hash as _, Hasher};

use holm_host_api::HostError;
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig, Strategy,
};

/// Stack that a guest may use, in bytes. Beyond it the guest traps.
const WASM_STACK_BYTES: usize = 1024 * 1024;

/// A fiber's whole stack: the guest's and that of the host functions it calls.
const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Memory of an instance that is zeroed in place when it ends, instead of being unmapped.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1024 * 1024;

/// Address space of a memory where that is short. Accesses are then checked one by one.
const MEMORY_RESERVED_BYTES: u64 = 16 << 20;

/// Largest table of the pool, in elements. The budget sums over all tables; this is for one.
const TABLE_ELEMENTS_MAX: usize = 200_000;

/// Tables that one core module may define: as many as the intake lets a whole workload have.
const TABLES_PER_MODULE_MAX: u32 = 32;

/// Tables for each memory of the pool.
pub(crate) const TABLES_PER_MEMORY: u32 = 2;

/// How instances get their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool with room for this many executions.
    Pooled {
        /// Executions at one time.
        executions_max: u32,
        /// Memories of all executions at one time, and twice as many tables.
        memories_max: u32,
    },
    /// By mapping each anew: address space is too short for a pool.
    OnDemand,
}

/// An engine and how it was set up.
pub(crate) struct HolmEngine {
    pub(crate) engine: Engine,
    pub(crate) allocation: Allocation,
    /// Names the configuration: compiled code is good for engines of the same name only.
    pub(crate) fingerprint: String,
}

/// Makes the engine. Where the address space has no room for a pool of `executions_max`, it tries
/// smaller pools and at last none.
///
/// # Errors
/// This machine cannot run the engine at all.
pub(crate) fn new(executions_max: u32) -> Result<HolmEngine, HostError> {
    let mut pool = executions_max.max(1);
    loop {
        let mut config = base_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
        match Engine::new(&config) {
            Ok(engine) => {
                let allocation = Allocation::Pooled { executions_max: pool, memories_max: memories(pool) };
                return Ok(holm_engine(engine, allocation));
            }
            Err(error) if pool > 1 => {
                tracing::warn!(executions_max = pool, "no pool of this size, trying a smaller one: {error:#}");
                pool = pool.div_ceil(4);
            }
            Err(error) => {
                tracing::warn!("no pooling allocator, mapping memory on demand: {error:#}");
                break;
            }
        }
    }
    let engine = start(&without_pool())?;
    Ok(holm_engine(engine, Allocation::OnDemand))
}

/// Makes an engine that compiles for engines of this name, and runs nothing. `None` if this program makes no
/// engine of that name.
///
/// # Errors
/// This machine cannot run the engine at all.
pub(crate) fn for_compiling(fingerprint: &str) -> Result<Option<Engine>, HostError> {
    // A pool does not show in the code; how memories are reserved without one does.
    for config in [base_config(), without_pool()] {
        let engine = start(&config)?;
        if name(&engine) == fingerprint {
            return Ok(Some(engine));
        }
    }
    Ok(None)
}

fn start(config: &Config) -> Result<Engine, HostError> {
    Engine::new(config)
        .map_err(|error| HostError::new("the WebAssembly engine does not start on this machine").because(error))
}

fn without_pool() -> Config {
    let mut config = base_config();
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        // Where there is no room for a pool there is none for memories that are reserved at full size either.
        .memory_reservation(MEMORY_RESERVED_BYTES)
        .memory_reservation_for_growth(MEMORY_RESERVED_BYTES)
        .memory_guard_size(64 * 1024);
    config
}

fn base_config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // The default would read an environment variable.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        // Multi-memory stays on: wasmtime's own adapters between components use it. The intake refuses it to
        // workloads. Each of these is attack surface that workloads do not need.
        .concurrency_support(false)
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_gc(false)
        .gc_support(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_memory64(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_relaxed_simd(false);
    config
}

/// An operator costs a unit of fuel by default, which is about what it takes. These leave the guest's code for the
/// host's, which takes as long as hundreds of others, also where they move nothing. What they move costs extra.
fn operator_cost() -> OperatorCost {
    OperatorCost {
        MemoryGrow: u8::MAX,
        TableGrow: u8::MAX,
        MemoryFill: 50,
        MemoryCopy: 50,
        MemoryInit: 50,
        TableFill: 50,
        TableCopy: 50,
        TableInit: 50,
        DataDrop: 60,
        ElemDrop: u8::MAX,
        RefFunc: 60,
        ..OperatorCost::new()
    }
}

/// A component has one memory as a rule, JavaScript's three. Slots cost address space, so that very large pools get
/// one each and a few.
fn memories(executions_max: u32) -> u32 {
    executions_max.saturating_mul(4).min(executions_max.max(20_000)).saturating_add(16)
}

fn pooling(executions_max: u32) -> PoolingAllocationConfig {
    let memories = memories(executions_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(executions_max)
        // Only counted; the budget bounds each execution's.
        .total_core_instances(executions_max.saturating_mul(500))
        .total_memories(memories)
        .total_tables(memories.saturating_mul(TABLES_PER_MEMORY))
        .total_stacks(executions_max)
        .max_component_instance_size(4 * 1024 * 1024)
        .max_core_instance_size(4 * 1024 * 1024)
        .max_tables_per_module(TABLES_PER_MODULE_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(64 * 1024)
        .pagemap_scan(Enabled::Auto)
        // A slot that is kept warm for another workload's image is of no use to this one.
        .max_unused_warm_slots(100);
    pool
}

fn holm_engine(engine: Engine, allocation: Allocation) -> HolmEngine {
    let fingerprint = name(&engine);
    HolmEngine { engine, allocation, fingerprint }
}

fn name(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The standard hasher may change between builds of this program; the name of a cache must not.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_found_for_every_engine_that_is_made_here() {
        for engine in [new(1).unwrap(), holm_engine(start(&without_pool()).unwrap(), Allocation::OnDemand)] {
            let compiler = for_compiling(&engine.fingerprint).unwrap().unwrap();
            assert_eq!(name(&compiler), engine.fingerprint, "{:?}", engine.allocation);
        }
        assert!(for_compiling("another").unwrap().is_none());
    }
}
