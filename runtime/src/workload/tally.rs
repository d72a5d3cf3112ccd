//! Counts what an upload holds, before anything is done with it.

use std::ops::Range;

use wasmparser::{
    BinaryReader, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExportSectionReader,
    ComponentExternalKind, ComponentImportSectionReader, ComponentInstance, ComponentOuterAliasKind, CoreType,
    CustomSectionReader, Encoding, Instance, KnownCustom, Payload,
};

use super::error::IntakeError;
use super::inspect::{Counts, Footprint, Producers};
use super::limits::IntakeLimits;
use super::walk::Stop;
use super::{inspect, nesting};

/// Size of a page of linear memory: other sizes are switched off.
const PAGE_BYTES: u64 = 65_536;

/// What was counted.
pub(super) struct Found {
    /// The outermost is a core module or a component.
    pub(super) encoding: Encoding,
    pub(super) counts: Counts,
    pub(super) footprint: Footprint,
    /// One component calls another, or may do so, with more than numbers.
    pub(super) copies_between_components: bool,
    pub(super) producers: Producers,
    /// Names of the outermost component's imports and exports, in order.
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// Where the contents are of those custom sections of the outermost module that say what
    /// component it is to be.
    pub(super) component_types: Vec<Range<usize>>,
}

/// Counts, and stops at a limit.
pub(super) struct Tally<'a> {
    upload: &'a [u8],
    limits: &'a IntakeLimits,
    open: Vec<Open>,
    found: Found,
}

/// A module or component whose end is not reached.
struct Open {
    encoding: Encoding,
    /// What instantiating it makes.
    footprint: Footprint,
    /// What instantiating each module and component of its index spaces makes.
    modules: Vec<Footprint>,
    components: Vec<Footprint>,
    /// Of each function and instance of its index spaces: is it the host's?
    functions: Vec<bool>,
    instances: Vec<bool>,
}

impl Open {
    /// A function or instance takes the next place of its index space.
    fn define(&mut self, kind: ComponentExternalKind, from_host: bool) {
        match kind {
            ComponentExternalKind::Func => self.functions.push(from_host),
            ComponentExternalKind::Instance => self.instances.push(from_host),
            _ => {}
        }
    }
}

impl<'a> Tally<'a> {
    pub(super) fn new(upload: &'a [u8], limits: &'a IntakeLimits) -> Self {
        let found = Found {
            encoding: Encoding::Module,
            counts: Counts::default(),
            footprint: Footprint::default(),
            copies_between_components: false,
            producers: Producers::default(),
            imports: Vec::new(),
            exports: Vec::new(),
            component_types: Vec::new(),
        };
        Tally { upload, limits, open: Vec::new(), found }
    }

    pub(super) fn done(self) -> Found {
        self.found
    }

    /// Counts one part of the upload. It is not validated yet: whatever makes no sense is passed over.
    pub(super) fn count(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::Version { encoding, range, .. } => self.begin(*encoding, range.start)?,
            Payload::End(offset) => self.end(*offset)?,
            Payload::CustomSection(section) => self.custom_section(section)?,
            _ => {
                self.count_module(payload)?;
                self.count_component(payload)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, encoding: Encoding, offset: usize) -> Result<(), IntakeError> {
        let Tally { limits, open, found: Found { counts, .. }, .. } = self;
        match encoding {
            Encoding::Module => add(&mut counts.core_modules, 1, "core modules:", limits.modules_max, offset)?,
            Encoding::Component => add(&mut counts.components, 1, "components:", limits.components_max, offset)?,
        }
        if open.is_empty() {
            self.found.encoding = encoding;
        }
        let footprint = Footprint::default();
        open.push(Open {
            encoding,
            footprint,
            modules: Vec::new(),
            components: Vec::new(),
            functions: Vec::new(),
            instances: Vec::new(),
        });
        at_most("levels of components in one another:", open.len() as u64, limits.nesting_max, offset)
    }

    fn end(&mut self, offset: usize) -> Result<(), IntakeError> {
        let Some(ended) = self.open.pop() else { return Ok(()) };
        match (self.open.last_mut(), ended.encoding) {
            (Some(parent), Encoding::Module) => parent.modules.push(ended.footprint),
            (Some(parent), Encoding::Component) => parent.components.push(ended.footprint),
            (None, _) => self.found.footprint = ended.footprint,
        }
        // Checked for parts too, so that a count never gets out of hand.
        ended.footprint.check(self.limits, offset)
    }

    fn custom_section(&mut self, section: &CustomSectionReader<'_>) -> Result<(), IntakeError> {
        let Tally { limits, open, found, .. } = self;
        let counts = &mut found.counts;
        add(&mut counts.custom_sections, 1, "custom sections:", limits.custom_sections_max, section.data_offset())?;
        counts.custom_bytes += section.data().len() as u64;
        let outermost_module = open.len() == 1 && found.encoding == Encoding::Module;
        if outermost_module && section.name().starts_with("component-type") {
            found.component_types.push(section.data_offset()..section.data_offset() + section.data().len());
        }
        if let KnownCustom::Producers(reader) = section.as_known() {
            found.producers.add(reader);
        }
        Ok(())
    }

    fn count_module(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        let Tally { limits, open, found: Found { counts, .. }, .. } = self;
        let Some(Open { footprint, .. }) = open.last_mut() else { return Ok(()) };
        match payload {
            Payload::TypeSection(s) => {
                add(&mut counts.types, s.count().into(), "types:", limits.types_max, s.range().start)?;
            }
            Payload::ImportSection(s) => {
                add(&mut counts.imports, s.count().into(), "imports:", limits.imports_max, s.range().start)?;
            }
            Payload::FunctionSection(s) => {
                add(&mut counts.functions, s.count().into(), "functions:", limits.functions_max, s.range().start)?;
            }
            Payload::GlobalSection(s) => {
                add(&mut counts.globals, s.count().into(), "globals:", limits.globals_max, s.range().start)?;
            }
            Payload::ExportSection(s) => {
                add(&mut counts.exports, s.count().into(), "exports:", limits.exports_max, s.range().start)?;
            }
            Payload::ElementSection(s) => {
                add(&mut counts.segments, s.count().into(), "segments:", limits.segments_max, s.range().start)?;
            }
            Payload::DataSection(s) => {
                add(&mut counts.segments, s.count().into(), "segments:", limits.segments_max, s.range().start)?;
                for data in s.clone() {
                    counts.data_bytes += data?.data.len() as u64;
                }
            }
            Payload::TableSection(s) => {
                for table in s.clone() {
                    footprint.add(&Footprint { tables: 1, table_elements: table?.ty.initial, ..Footprint::default() });
                }
            }
            Payload::MemorySection(s) => {
                for memory in s.clone() {
                    let memory_bytes = memory?.initial.saturating_mul(PAGE_BYTES);
                    footprint.add(&Footprint { memories: 1, memory_bytes, ..Footprint::default() });
                }
            }
            Payload::CodeSectionEntry(body) => counts.code_bytes += body.range().len() as u64,
            _ => {}
        }
        Ok(())
    }

    fn count_component(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::ComponentTypeSection(s) => {
                let range = s.range();
                let (start, section) = (range.start, self.upload.get(range).unwrap_or_default());
                let reader = BinaryReader::new_features(section, start, inspect::allowed_features());
                let types = &mut self.found.counts.types;
                let left = self.limits.types_max.saturating_sub(*types);
                let declared = nesting::measure(reader, self.limits.nesting_max, left)?;
                add(types, declared.declarations, "types:", self.limits.types_max, start)?;
                at_most("levels of types in one another:", declared.depth, self.limits.nesting_max, start)?;
            }
            Payload::CoreTypeSection(s) => {
                let types = &mut self.found.counts.types;
                for ty in s.clone() {
                    let declared = match ty? {
                        CoreType::Rec(group) => group.types().len() as u64,
                        CoreType::Module(declarations) => 1 + declarations.len() as u64,
                    };
                    add(types, declared, "types:", self.limits.types_max, s.range().start)?;
                }
            }
            Payload::InstanceSection(s) => {
                for instance in s.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(Encoding::Module, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(s) => {
                for instance in s.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.instantiate(Encoding::Component, component_index);
                    }
                    self.open.last_mut().into_iter().for_each(|open| open.instances.push(false));
                }
            }
            Payload::ComponentAliasSection(s) => {
                self.add_definitions(s.count(), s.range().start)?;
                for alias in s.clone().into_iter_with_offsets() {
                    let (offset, alias) = alias?;
                    self.alias(&alias, offset)?;
                }
            }
            Payload::ComponentCanonicalSection(s) => {
                self.add_definitions(s.count(), s.range().start)?;
                if let Some(open) = self.open.last_mut() {
                    open.footprint.canonical_functions += u64::from(s.count());
                }
                for function in s.clone() {
                    self.canonical(&function?);
                }
            }
            Payload::ComponentImportSection(s) => self.component_imports(s)?,
            Payload::ComponentExportSection(s) => self.component_exports(s)?,
            _ => {}
        }
        Ok(())
    }

    fn add_definitions(&mut self, more: u32, offset: usize) -> Result<(), IntakeError> {
        let definitions = &mut self.found.counts.definitions;
        add(definitions, more.into(), "aliases and canonical functions:", self.limits.definitions_max, offset)
    }

    fn instantiate(&mut self, encoding: Encoding, index: u32) {
        let Some(open) = self.open.last_mut() else { return };
        let (made, itself) = match encoding {
            Encoding::Module => (&open.modules, Footprint { core_instances: 1, ..Footprint::default() }),
            Encoding::Component => (&open.components, Footprint { component_instances: 1, ..Footprint::default() }),
        };
        let made = made.get(index as usize).copied().unwrap_or_default();
        open.footprint.add(&made);
        open.footprint.add(&itself);
    }

    /// Keeps the index spaces of modules and components, so that it is known what each instantiation makes.
    fn alias(&mut self, alias: &ComponentAlias<'_>, offset: usize) -> Result<(), IntakeError> {
        match alias {
            ComponentAlias::Outer { kind, count, index } => {
                let outer = self.open.len().checked_sub(1 + *count as usize).and_then(|level| self.open.get(level));
                let made = |space: fn(&Open) -> &Vec<Footprint>| {
                    outer.and_then(|outer| space(outer).get(*index as usize)).copied().unwrap_or_default()
                };
                let (module, component) = (made(|open| &open.modules), made(|open| &open.components));
                match (kind, self.open.last_mut()) {
                    (ComponentOuterAliasKind::CoreModule, Some(open)) => open.modules.push(module),
                    (ComponentOuterAliasKind::Component, Some(open)) => open.components.push(component),
                    _ => {}
                }
                Ok(())
            }
            ComponentAlias::InstanceExport { kind, instance_index, .. } => {
                if let Some(open) = self.open.last_mut() {
                    let from_host = open.instances.get(*instance_index as usize).copied().unwrap_or_default();
                    open.define(*kind, from_host);
                }
                refuse_higher_order(*kind, offset)
            }
            ComponentAlias::CoreInstanceExport { .. } => Ok(()),
        }
    }

    fn component_imports(&mut self, section: &ComponentImportSectionReader<'_>) -> Result<(), Stop> {
        let counts = &mut self.found.counts;
        add(&mut counts.imports, section.count().into(), "imports:", self.limits.imports_max, section.range().start)?;
        for import in section.clone().into_iter_with_offsets() {
            let (offset, import) = import?;
            refuse_higher_order(import.ty.kind(), offset)?;
            let outermost = self.open.len() == 1;
            if outermost {
                self.found.imports.push(import.name.name.to_owned());
            }
            // What an inner component imports may be another one's.
            self.open.last_mut().into_iter().for_each(|open| open.define(import.ty.kind(), outermost));
        }
        Ok(())
    }

    fn canonical(&mut self, function: &CanonicalFunction) {
        let Some(open) = self.open.last_mut() else { return };
        match function {
            CanonicalFunction::Lift { .. } => open.functions.push(false),
            CanonicalFunction::Lower { func_index, options } => {
                let from_host = open.functions.get(*func_index as usize).copied().unwrap_or_default();
                let by_memory = options.iter().any(|option| matches!(option, CanonicalOption::Memory(_)));
                self.found.copies_between_components |= by_memory && !from_host;
            }
            _ => {}
        }
    }

    fn component_exports(&mut self, section: &ComponentExportSectionReader<'_>) -> Result<(), Stop> {
        let counts = &mut self.found.counts;
        add(&mut counts.exports, section.count().into(), "exports:", self.limits.exports_max, section.range().start)?;
        for export in section.clone() {
            let export = export?;
            if self.open.len() == 1 {
                self.found.exports.push(export.name.name.to_owned());
            }
            // An export is an item of the index space too.
            let Some(open) = self.open.last_mut() else { continue };
            let exported = match export.kind {
                ComponentExternalKind::Func => open.functions.get(export.index as usize),
                ComponentExternalKind::Instance => open.instances.get(export.index as usize),
                _ => None,
            };
            let from_host = exported.copied().unwrap_or_default();
            open.define(export.kind, from_host);
            let space = match export.kind {
                ComponentExternalKind::Module => &mut open.modules,
                ComponentExternalKind::Component => &mut open.components,
                _ => continue,
            };
            space.push(space.get(export.index as usize).copied().unwrap_or_default());
        }
        Ok(())
    }
}

/// Modules and components that a component gets from outside cannot be counted, and no toolchain makes such.
fn refuse_higher_order(kind: ComponentExternalKind, offset: usize) -> Result<(), IntakeError> {
    let what = match kind {
        ComponentExternalKind::Module => "a core module as an import or as an export of an instance",
        ComponentExternalKind::Component => "a component as an import or as an export of an instance",
        _ => return Ok(()),
    };
    Err(IntakeError::Unsupported { what, offset: offset as u64 })
}

fn add(count: &mut u64, more: u64, what: &'static str, limit: u64, offset: usize) -> Result<(), IntakeError> {
    *count = count.saturating_add(more);
    at_most(what, *count, limit, offset)
}

fn at_most(what: &'static str, found: u64, limit: u64, offset: usize) -> Result<(), IntakeError> {
    if found <= limit {
        return Ok(());
    }
    Err(IntakeError::TooLarge { what, found, limit, offset: Some(offset as u64) })
}
