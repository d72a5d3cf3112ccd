//! The bare loop: wasmtime as the library sets it up, with fuel, limits and WASI, and nothing else.

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, ResourceTable};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Fuel of one run, as an execution gets it.
pub const FUEL: u64 = 10_000_000_000;

/// Units of fuel between two yields.
pub const FUEL_YIELD_INTERVAL: u64 = 200_000;

/// Memory of one run, in bytes.
const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A component that is ready to be instantiated.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<State>,
    run: ComponentExportIndex,
    yields: Option<u64>,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Bare {
    pub fn new(component: &[u8]) -> Self {
        let engine = engine();
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        let component = Component::from_binary(&engine, component).unwrap();
        let run = component.get_export_index(None, "run").unwrap();
        let pre = linker.instantiate_pre(&component).unwrap();
        Bare { engine, pre, run, yields: Some(FUEL_YIELD_INTERVAL) }
    }

    #[allow(dead_code, reason = "each bench uses a part of it")]
    /// As wasmtime is by itself: a guest that computes holds its thread.
    pub fn without_yields(component: &[u8]) -> Self {
        Bare { yields: None, ..Self::new(component) }
    }

    pub async fn run(&self, input: &str) {
        let limits = StoreLimitsBuilder::new()
            .memory_size(MEMORY_BYTES_MAX)
            .table_elements(200_000)
            .instances(500)
            .memories(500)
            .tables(2_000)
            .build();
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), limits };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL).unwrap();
        store.fuel_async_yield_interval(self.yields).unwrap();
        let instance = self.pre.instantiate_async(&mut store).await.unwrap();
        let run = instance.get_typed_func::<(&str,), (Result<String, String>,)>(&mut store, self.run).unwrap();
        let (output,) = run.call_async(&mut store, (input,)).await.unwrap();
        assert_eq!(output.unwrap().len(), input.len());
    }
}

/// An engine with the library's settings, as far as they cost or save time.
pub fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1_000)
        .total_core_instances(500_000)
        .total_memories(4_016)
        .total_tables(8_032)
        .total_stacks(1_000)
        .max_component_instance_size(4 * 1024 * 1024)
        .max_core_instance_size(4 * 1024 * 1024)
        .table_elements(200_000)
        .linear_memory_keep_resident(1024 * 1024)
        .table_keep_resident(64 * 1024)
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(100);
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .max_wasm_stack(1024 * 1024)
        .async_stack_size(2 * 1024 * 1024)
        .concurrency_support(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .gc_support(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).unwrap()
}
