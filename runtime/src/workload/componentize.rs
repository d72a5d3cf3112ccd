//! Makes a component of a core module.

use std::ops::Range;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR_ADAPTER,
};
use wasmparser::CompositeInnerType;
use wasmparser::types::{EntityType, TypesRef};
use wit_component::ComponentEncoder;

use super::error::{IntakeError, bounded_names};
use super::guard::guarded;
use super::inspect::Form;
use super::limits::IntakeLimits;
use super::shown::shown_list;
use super::walk::{Walked, walk};

/// What this step is called in an error.
pub(super) const ENCODER: &str = "the component encoder";

/// What a command's toolchain calls its entry point.
const START: &str = "_start";

/// Embedded component types of one module: bindings generators add one each.
const COMPONENT_TYPES_MAX: u64 = 50;

/// Makes a component of a valid core module.
///
/// # Errors
/// It is neither a command nor carries a component type, or the two do not fit together.
pub(super) fn componentize(
    module: &[u8],
    walked: &Walked,
    limits: &IntakeLimits,
) -> Result<(Vec<u8>, Form), IntakeError> {
    let types = walked.types.as_ref();
    let modules = imported_modules(types);
    let starts = is_start(types);
    let form = if walked.found.component_types.is_empty() {
        let others: Vec<&str> = modules.iter().copied().filter(|module| *module != PREVIEW1).collect();
        if !starts || !others.is_empty() {
            return Err(not_a_command(types, starts, &others));
        }
        Form::Preview1Command
    } else {
        check_component_types(module, &walked.found.component_types, limits)?;
        Form::CoreModule
    };
    // The command adapter is what makes `wasi:cli/run` of `_start`, also for modules that import
    // nothing of preview 1.
    let adapter = match (starts, modules.contains(&PREVIEW1)) {
        (true, _) => Some(COMMAND_ADAPTER),
        (false, true) => Some(REACTOR_ADAPTER),
        (false, false) => None,
    };
    if adapter.is_some() && !exports_memory(types) {
        return Err(IntakeError::from_componentize("it exports no memory with the name `memory`, which WASI needs"));
    }
    Ok((encode(module, adapter)?, form))
}

/// wit-component reads component types by recursion, with every feature on, and merges each with all
/// before it. So they are held to the limits first, all together.
fn check_component_types(module: &[u8], ranges: &[Range<usize>], limits: &IntakeLimits) -> Result<(), IntakeError> {
    let found = ranges.len() as u64;
    if found > COMPONENT_TYPES_MAX {
        let what = "embedded component types:";
        return Err(IntakeError::TooLarge { what, found, limit: COMPONENT_TYPES_MAX, offset: None });
    }
    let share = IntakeLimits { type_steps_max: limits.type_steps_max / found.max(1), ..*limits };
    ranges.iter().try_for_each(|range| walk(module, range.clone(), &share).map(drop))
}

fn encode(module: &[u8], adapter: Option<&[u8]>) -> Result<Vec<u8>, IntakeError> {
    guarded(ENCODER, || {
        let mut encoder = ComponentEncoder::default().module(module)?;
        if let Some(adapter) = adapter {
            encoder = encoder.adapter(PREVIEW1, adapter)?;
        }
        encoder.encode()
    })?
    .map_err(|error| IntakeError::from_componentize(&format!("{error:#}")))
}

/// Names of the modules that a core module imports from, each once.
fn imported_modules<'a>(types: TypesRef<'a>) -> Vec<&'a str> {
    let mut modules: Vec<&str> = types.core_imports().into_iter().flatten().map(|(module, _, _)| module).collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}

/// Does it export `_start` without parameters and results?
fn is_start(types: TypesRef<'_>) -> bool {
    types.core_exports().into_iter().flatten().any(|(name, ty)| {
        let EntityType::Func(id) = ty else { return false };
        let Some(CompositeInnerType::Func(ty)) = types.get(id).map(|ty| &ty.composite_type.inner) else { return false };
        name == START && ty.params().is_empty() && ty.results().is_empty()
    })
}

fn exports_memory(types: TypesRef<'_>) -> bool {
    types.core_exports().into_iter().flatten().any(|(name, ty)| name == "memory" && matches!(ty, EntityType::Memory(_)))
}

fn not_a_command(types: TypesRef<'_>, starts: bool, others: &[&str]) -> IntakeError {
    let exports = bounded_names(types.core_exports().into_iter().flatten().map(|(name, _)| name));
    let why = match (starts, others.is_empty()) {
        (_, false) => format!(" and imports from {}", shown_list(others, 8)),
        (false, true) if exports.iter().any(|name| name == START) => {
            ", where `_start` is not a function without parameters and results".to_owned()
        }
        _ => String::new(),
    };
    IntakeError::NoModuleEntryPoint { exports, why }
}
