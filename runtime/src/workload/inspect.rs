//! What is known of a workload before it is compiled.

use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{ProducersSectionReader, WasmFeatures};

use super::entry;
use super::error::{IntakeError, bounded_names};
use super::limits::IntakeLimits;
use super::shown::{NAME_CHARS_MAX, shown};
use super::walk::Walked;

/// Values of one kind that are kept of producers sections, which say anything that they like.
const PRODUCERS_MAX: usize = 16;

/// How a workload is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// It exports `run: func(input: string) -> result<string, string>`.
    Workload,
    /// It exports `wasi:cli/run@0.2`: it reads stdin, writes stdout and exits.
    Command,
}

/// What was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A component.
    Component,
    /// A core module that carries the type of the component that it was made into.
    CoreModule,
    /// A core module for WASI preview 1, with `_start`.
    Preview1Command,
}

/// How the upload was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// WebAssembly's binary format.
    Binary,
    /// Its text format.
    Text,
}

/// What a component needs from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// `holm:host/llm@0.1.0`, or the plain name of a function.
    pub name: String,
    /// The functions that it takes from this interface, in alphabetical order.
    pub functions: Vec<String>,
}

/// What is known of a workload before it is compiled. All numbers are of the component, after a core
/// module was made into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// How it is entered.
    pub shape: Shape,
    /// What was uploaded.
    pub form: Form,
    /// How the upload was written.
    pub encoding: Encoding,
    /// Size of the upload, in bytes.
    pub bytes: u64,
    /// Size of the component, in bytes.
    pub component_bytes: u64,
    /// What it needs from the host. Types alone need nothing and are left out.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it is made of.
    pub counts: Counts,
    /// What instantiating it makes.
    pub footprint: Footprint,
    /// Its components may call one another with more than numbers. The engine copies what they pass, and asks for no
    /// fuel for it.
    pub copies_between_components: bool,
    /// What made it, as it says itself.
    pub producers: Producers,
}

/// What an upload is made of, with all that is nested in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Core modules.
    pub core_modules: u64,
    /// Components, the outermost included.
    pub components: u64,
    /// Functions that core modules define.
    pub functions: u64,
    /// Types, with the declarations inside component types.
    pub types: u64,
    /// Imports of core modules and components.
    pub imports: u64,
    /// Exports of core modules and components.
    pub exports: u64,
    /// Globals of core modules.
    pub globals: u64,
    /// Data and element segments.
    pub segments: u64,
    /// Aliases and canonical functions of components.
    pub definitions: u64,
    /// Custom sections.
    pub custom_sections: u64,
    /// Bytes of code.
    pub code_bytes: u64,
    /// Bytes of data segments.
    pub data_bytes: u64,
    /// Bytes of custom sections.
    pub custom_bytes: u64,
}

/// What instantiating a workload makes, before any of its code has run. A component that is
/// instantiated twice counts twice, with all that is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Instances of core modules.
    pub core_instances: u64,
    /// Instances of nested components.
    pub component_instances: u64,
    /// Memories.
    pub memories: u64,
    /// Bytes of these memories at the start.
    pub memory_bytes: u64,
    /// Tables.
    pub tables: u64,
    /// Elements of these tables at the start.
    pub table_elements: u64,
    /// Functions lifted from, or lowered to, core modules: each is code to be compiled.
    pub canonical_functions: u64,
}

impl Footprint {
    pub(super) fn add(&mut self, more: &Footprint) {
        for (mine, more) in [
            (&mut self.core_instances, more.core_instances),
            (&mut self.component_instances, more.component_instances),
            (&mut self.memories, more.memories),
            (&mut self.memory_bytes, more.memory_bytes),
            (&mut self.tables, more.tables),
            (&mut self.table_elements, more.table_elements),
            (&mut self.canonical_functions, more.canonical_functions),
        ] {
            // Components in components double such sums with every few bytes.
            *mine = mine.saturating_add(more);
        }
    }

    pub(super) fn check(&self, limits: &IntakeLimits, offset: usize) -> Result<(), IntakeError> {
        let instances = self.core_instances.saturating_add(self.component_instances);
        for (what, found, limit) in [
            ("instances:", instances, limits.instances_max),
            ("memories:", self.memories, limits.memories_max),
            ("initial memory in bytes:", self.memory_bytes, limits.memory_bytes_max),
            ("tables:", self.tables, limits.tables_max),
            ("initial table elements:", self.table_elements, limits.table_elements_max),
            ("canonical functions of all instances:", self.canonical_functions, limits.definitions_max),
        ] {
            if found > limit {
                return Err(IntakeError::TooLarge { what, found, limit, offset: Some(offset as u64) });
            }
        }
        Ok(())
    }
}

/// What made a workload, as its `producers` sections say: useful to a person, and never to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Producers {
    /// Source languages: `Rust`, `C11`.
    pub languages: Vec<String>,
    /// Tools with their versions: `rustc 1.95.0`.
    pub tools: Vec<String>,
}

impl Producers {
    /// Adds what one section says. A section that does not parse says nothing.
    pub(super) fn add(&mut self, reader: ProducersSectionReader<'_>) {
        for field in reader.into_iter().map_while(Result::ok) {
            let list = if field.name == "language" { &mut self.languages } else { &mut self.tools };
            for value in field.values.into_iter().map_while(Result::ok) {
                if list.len() == PRODUCERS_MAX {
                    break;
                }
                let text = shown(format!("{} {}", value.name, value.version).trim(), 80);
                if !list.contains(&text) {
                    list.push(text);
                }
            }
        }
    }
}

/// The WebAssembly features that a workload may use. `engine.rs` must have all of them on; what is not
/// here is refused at the door, in words.
///
/// References to host objects (`externref`) are off too: no host function here takes or gives one.
/// Relaxed SIMD is off because it gives other results on other machines, and a replay must not.
pub fn allowed_features() -> WasmFeatures {
    WasmFeatures::FLOATS
        | WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL
}

/// How an upload came.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) form: Form,
    pub(super) encoding: Encoding,
    pub(super) bytes: u64,
}

/// Inspects a component.
///
/// # Errors
/// It has no entry point, or one of another type.
pub(super) fn inspect(walked: Walked, component_bytes: u64, origin: Origin) -> Result<Inspection, IntakeError> {
    let Walked { types, found } = walked;
    let types = types.as_ref();
    let shape = entry::shape(types, &found.exports)?;
    Ok(Inspection {
        shape,
        form: origin.form,
        encoding: origin.encoding,
        bytes: origin.bytes,
        component_bytes,
        imports: found.imports.iter().filter_map(|name| import(types, name)).collect(),
        exports: bounded_names(found.exports.iter().map(String::as_str)),
        counts: found.counts,
        footprint: found.footprint,
        copies_between_components: found.copies_between_components,
        producers: found.producers,
    })
}

/// An import as the host sees it, or `None` if it needs nothing of the host: a type that is only named.
fn import(types: TypesRef<'_>, name: &str) -> Option<Import> {
    let functions = match types.component_item_for_import(name)?.ty {
        ComponentEntityType::Type { .. } => return None,
        ComponentEntityType::Instance(id) => {
            let exports = types.get(id).map(|instance| instance.exports.iter()).into_iter().flatten();
            let functions = exports.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
            let mut functions = bounded_names(functions.map(|(name, _)| name.as_str()));
            functions.sort();
            functions
        }
        _ => Vec::new(),
    };
    Some(Import { name: shown(name, NAME_CHARS_MAX), functions })
}
