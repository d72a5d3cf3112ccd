//! What an upload may be at most.

/// What an upload may be at most. Every count is over the whole upload, nested modules and
/// components included.
///
/// The defaults admit what the usual toolchains make with room to spare: a Python workload (18 MB:
/// the interpreter and its standard library) has 38 core modules, 14,000 functions and takes 650,000
/// steps to check its types and 500,000 for its code. They also bound the intake itself: bytes made
/// to abuse it get at most some 5 seconds and 500 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Bytes of the upload, and of the component that is made of it.
    pub bytes_max: u64,
    /// Bytes of an upload in text form. The time to parse text grows with the square of its length, where
    /// it is written to that end.
    pub text_bytes_max: u64,
    /// Depth of components, and of component types, in one another.
    pub nesting_max: u64,
    /// Core modules.
    pub modules_max: u64,
    /// Components, the outermost included.
    pub components_max: u64,
    /// Functions that core modules define.
    pub functions_max: u64,
    /// Types that core modules and components declare, with the declarations inside component types.
    pub types_max: u64,
    /// Imports of core modules and components.
    pub imports_max: u64,
    /// Exports of core modules and components.
    pub exports_max: u64,
    /// Globals that core modules define.
    pub globals_max: u64,
    /// Data and element segments.
    pub segments_max: u64,
    /// Custom sections.
    pub custom_sections_max: u64,
    /// Aliases and canonical functions of components.
    pub definitions_max: u64,
    /// Instances, of modules and of components, that one instantiation makes. A component that is
    /// instantiated twice counts twice with all that is in it.
    pub instances_max: u64,
    /// Memories that one instantiation makes.
    pub memories_max: u64,
    /// Bytes that these memories have at the start.
    pub memory_bytes_max: u64,
    /// Tables that one instantiation makes.
    pub tables_max: u64,
    /// Elements that these tables have at the start.
    pub table_elements_max: u64,
    /// Steps that checking the component's types may take: roughly, the nodes of each type as often
    /// as the type is imported, exported, instantiated, lifted or lowered.
    pub type_steps_max: u64,
    /// Steps that checking the code may take beyond one an operator: roughly, the parameters and results
    /// of each block, call and branch, for each of its targets.
    pub code_steps_max: u64,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        IntakeLimits {
            bytes_max: 64 << 20,
            text_bytes_max: 256 << 10,
            nesting_max: 16,
            modules_max: 500,
            components_max: 500,
            functions_max: 300_000,
            types_max: 100_000,
            imports_max: 100_000,
            exports_max: 200_000,
            globals_max: 200_000,
            segments_max: 200_000,
            custom_sections_max: 5_000,
            definitions_max: 100_000,
            instances_max: 1_000,
            memories_max: 16,
            memory_bytes_max: 1 << 30,
            tables_max: 32,
            table_elements_max: 200_000,
            type_steps_max: 5_000_000,
            code_steps_max: 20_000_000,
        }
    }
}
