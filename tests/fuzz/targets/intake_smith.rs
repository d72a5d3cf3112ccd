//! Uploads that are valid Wasm, made by chance: modules as commands and as workloads, components by themselves and as
//! parts of workloads.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use holm_fuzz::{mutate::with_section, panics, take::take};
use libfuzzer_sys::fuzz_target;
use wasm_smith::{Component, Config, Module};

/// What a core module must export to be a command, and may import.
static COMMAND: LazyLock<Vec<u8>> =
    LazyLock::new(|| binary(r#"(module (memory (export "memory") 1) (func (export "_start")))"#));
static PREVIEW_1: LazyLock<Vec<u8>> = LazyLock::new(|| binary(include_str!("preview1.wat")));

/// What a core module must export to be a workload, and the world that it is embedded with.
static RUN: LazyLock<Vec<u8>> = LazyLock::new(|| binary(include_str!("run.wat")));
static RUN_WORLD: LazyLock<Vec<u8>> = LazyLock::new(|| binary(include_str!("run_world.wat")));

/// A whole workload, to which something is added.
static WORKLOAD: LazyLock<Vec<u8>> = LazyLock::new(|| binary(include_str!("../seeds/intake/workload.wat")));

fuzz_target!(init: panics::end_the_process(), |bytes: &[u8]| {
    if let Ok(upload) = upload(&mut Unstructured::new(bytes)) {
        take(&upload);
    }
});

fn upload(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let way = u.int_in_range(0..=6_u8)?;
    let mut config = Config::arbitrary(u)?;
    // Most are of the features that are on; a few show that the others are refused.
    if u.ratio(15, 16)? {
        config.exceptions_enabled = false;
        config.gc_enabled = false;
        config.memory64_enabled = false;
        // Most of what comes with them are references to host objects.
        config.reference_types_enabled = false;
        config.relaxed_simd_enabled = false;
        config.threads_enabled = false;
        config.wide_arithmetic_enabled = false;
        config.max_memories = 1;
    }
    // Compiling and running is for small ones.
    config.max_funcs = config.max_funcs.min(10);
    config.max_instructions = config.max_instructions.min(100);
    config.max_memory32_bytes = config.max_memory32_bytes.min(64 << 20);
    let custom = |contents: &[u8]| [b"\x0ecomponent-type".as_slice(), contents].concat();
    Ok(match way {
        0 => Component::new(config, u)?.to_bytes(),
        1 => with_section(&WORKLOAD, 4, &Component::new(config, u)?.to_bytes()),
        2 => with_section(&WORKLOAD, 1, &Module::new(config, u)?.to_bytes()),
        3 => Module::new(config, u)?.to_bytes(),
        4 => {
            config.exports = Some(COMMAND.clone());
            config.available_imports = Some(PREVIEW_1.clone());
            Module::new(config, u)?.to_bytes()
        }
        _ => {
            config.exports = Some(RUN.clone());
            config.available_imports = Some(COMMAND.clone());
            config.max_imports = 0;
            config.min_imports = 0;
            with_section(&Module::new(config, u)?.to_bytes(), 0, &custom(&RUN_WORLD))
        }
    })
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("a text")
}
