//! A guest that can call every host function with any argument, and end in every way.
//!
//! It is one component, compiled once: a small interpreter. Its input is a program that says which functions it calls
//! with which core values, so that wrong pointers, forged handles and wrong lengths are as easy to say as right ones.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use holm_runtime::workload::{IntakeLimits, Workload, matches};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::WasmType;
use wit_parser::{
    Function, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, SizeAlign, TypeDefKind, TypeId, WasmImport,
    WorldId, WorldItem, WorldKey,
};

/// Where host functions write results that are more than one value.
pub const RESULT: u32 = 0x2000;

/// Where programs put what arguments point at.
pub const DATA: u32 = 0x1_0000;
pub const DATA_END: u32 = 0x4_0000;

/// Where the program is, once the input is read.
const PROGRAM: u32 = 0x4_0000;
pub const PROGRAM_BYTES_MAX: usize = 0x2_0000;

/// A host function, as core Wasm sees it.
pub struct HostFunction {
    pub name: String,
    pub params: Vec<WasmType>,
    pub result: Option<WasmType>,
    pub kind: Kind,
}

pub enum Kind {
    Call(Function),
    Drop(TypeId),
}

pub struct Guest {
    pub workload: Workload,
    pub functions: Vec<HostFunction>,
    pub resolve: Resolve,
    pub sizes: SizeAlign,
    /// The functions that give a handle to a resource.
    pub makers: HashMap<TypeId, Vec<usize>>,
}

/// What the interpreter does next. Numbers come in little-endian bytes.
pub mod op {
    /// u16 function, and an argument for each parameter.
    pub const CALL: u8 = 0;
    /// u32 address, u16 length, bytes.
    pub const STORE: u8 = 1;
    /// u32 address, argument.
    pub const STORE_VALUE: u8 = 2;
    /// u8 slot, u8 conditions, for each u32 address and u8 the byte that must be there; u32 address of the handle.
    pub const SAVE: u8 = 3;
    /// u8 slot: keeps the last function's only result.
    pub const SAVE_LAST: u8 = 4;
    /// u8 discriminant, argument for the pointer, argument for the length.
    pub const RETURN: u8 = 5;
    /// u8 way, argument.
    pub const END: u8 = 6;
    /// u8 way.
    pub const REALLOC: u8 = 7;
    /// u8 way.
    pub const POST_RETURN: u8 = 8;
    /// u8 how often, u32 offset in the program.
    pub const REPEAT: u8 = 9;
    /// u8 slot.
    pub const FORGET: u8 = 10;
    /// u8 slot: keeps the first word of the list that the last function gave, unless it is empty.
    pub const SAVE_FIRST: u8 = 11;
}

/// Where an argument comes from.
pub mod arg {
    /// u8.
    pub const SMALL: u8 = 0;
    /// u32.
    pub const WORD: u8 = 1;
    /// u64.
    pub const LONG: u8 = 2;
    /// u8 slot. The call is left out where nothing is in it.
    pub const SLOT: u8 = 3;
    /// The last function's only result.
    pub const LAST: u8 = 4;
    /// u32 address of a u32.
    pub const LOAD: u8 = 5;
    /// u8 bytes before the end of memory.
    pub const NEAR_END: u8 = 6;
}

/// Ways to end, by number.
pub const ENDS: [&str; 16] = [
    "unreachable",
    "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
    "(drop (i32.load (i32.const -1)))",
    "(loop $for_ever (br $for_ever))",
    "(call $recurse)",
    "(call_indirect (type $nothing) (i32.const 0xffff))",
    "(call_indirect (type $other) (f64.const 0) (i32.const 0))",
    "(drop (memory.grow (i32.wrap_i64 (local.get $value))))",
    "(drop (i32.trunc_f32_s (f32.const nan)))",
    "(return (i32.const 0x2f01))",
    "(return (i32.wrap_i64 (local.get $value)))",
    "(memory.fill (i32.const 0x50000) (i32.const 0) (i32.const 0xb0000))",
    "(drop (table.grow $functions (ref.null func) (i32.wrap_i64 (local.get $value))))",
    "(memory.copy (i32.wrap_i64 (local.get $value)) (i32.const 0) (i32.const 0x10000))",
    "(return_call_indirect (type $run) (local.get $ptr) (local.get $len) (i32.const 0))",
];

/// Whether the guest goes on after this end, if memory or a table has room.
pub fn ends(way: u8) -> bool {
    !matches!(usize::from(way) % ENDS.len(), 8 | 12 | 13)
}

/// The guest, made at the first use.
pub fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(Guest::make)
}

/// The input that carries a program: text, since the entry point takes no other.
pub fn input(program: &[u8]) -> Vec<u8> {
    let program = &program[..program.len().min(PROGRAM_BYTES_MAX)];
    program.iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]).collect()
}

impl Guest {
    fn make() -> Self {
        let (resolve, world) = world();
        let functions = functions(&resolve, world);
        let mut module = wat::parse_str(interpreter(&functions)).expect("the interpreter is Wasm");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("a world");
        let component = ComponentEncoder::default()
            .module(&module)
            .and_then(|encoder| encoder.validate(true).encode())
            .expect("the interpreter is a component");
        let workload = Workload::from_bytes(&component, &IntakeLimits::default()).expect("the interpreter is taken");
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let mut guest = Guest { workload, functions, resolve, sizes, makers: HashMap::new() };
        let mut makers: HashMap<TypeId, Vec<usize>> = HashMap::new();
        for (index, function) in guest.functions.iter().enumerate() {
            if let Kind::Call(Function { result: Some(result), .. }) = &function.kind {
                let made = guest.handles_in(result).into_iter().map(|made| made.resource);
                for resource in made.chain(guest.first_handle_of_list(result)) {
                    makers.entry(resource).or_default().push(index);
                }
            }
        }
        guest.makers = makers;
        guest
    }
}

/// The world of workloads with all of WASI that a workload may import.
fn world() -> (Resolve, WorldId) {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host-api/wit");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).expect("the contract of guests");
    let world = resolve.select_world(&[package], Some("workload")).expect("the world of workloads");
    // The preview 1 adapter carries the definitions of all the interfaces that it may import.
    let (_, adapter) = wit_component::metadata::decode(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER).expect("an adapter");
    let remap = resolve.merge(adapter.resolve).expect("WASI");
    let wasi = remap.worlds[adapter.world.index()].expect("the adapter's world");
    let imports: Vec<(WorldKey, WorldItem)> =
        resolve.worlds[wasi].imports.iter().map(|(key, item)| (key.clone(), item.clone())).collect();
    let mut missing: Vec<&str> = holm_host_api::wasi::INTERFACES.to_vec();
    for (key, item) in imports {
        let name = resolve.name_world_key(&key);
        let before = missing.len();
        missing.retain(|offered| !matches(offered, &name));
        if missing.len() < before {
            resolve.worlds[world].imports.insert(key, item);
        }
    }
    assert!(missing.is_empty(), "not known to the adapter: {missing:?}");
    (resolve, world)
}

fn functions(resolve: &Resolve, world: WorldId) -> Vec<HostFunction> {
    let mangling = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
    let mut functions = Vec::new();
    for (key, item) in &resolve.worlds[world].imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = &resolve.interfaces[*id];
        for function in interface.functions.values() {
            // Not every function that is written down is offered: unstable ones are not.
            if !matches!(function.stability, wit_parser::Stability::Unstable { .. }) {
                let signature = resolve.wasm_signature(mangling.import_variant(), function);
                let import = WasmImport::Func { interface: Some(key), func: function };
                let (module, name) = resolve.wasm_import_name(mangling, import);
                functions.push(HostFunction {
                    name: format!("{module:?} {name:?}"),
                    params: signature.params,
                    result: signature.results.first().copied(),
                    kind: Kind::Call(function.clone()),
                });
            }
        }
        for resource in interface.types.values() {
            if matches!(resolve.types[*resource].kind, TypeDefKind::Resource) {
                let intrinsic = ResourceIntrinsic::ImportedDrop;
                let import = WasmImport::ResourceIntrinsic { interface: Some(key), resource: *resource, intrinsic };
                let (module, name) = resolve.wasm_import_name(mangling, import);
                functions.push(HostFunction {
                    name: format!("{module:?} {name:?}"),
                    params: vec![WasmType::I32],
                    result: None,
                    kind: Kind::Drop(*resource),
                });
            }
        }
    }
    functions
}

fn core(ty: &WasmType) -> &'static str {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// The interpreter, in text form.
fn interpreter(functions: &[HostFunction]) -> String {
    let (mut imports, mut calls, mut names) = (String::new(), String::new(), String::new());
    for (index, HostFunction { name, params, result, .. }) in functions.iter().enumerate() {
        let _ = write!(imports, "(import {name} (func $host{index}");
        let _ = write!(calls, "(func $call{index}");
        for (number, param) in params.iter().enumerate() {
            let _ = write!(imports, " (param {})", core(param));
            let _ = write!(calls, " (local $a{number} {})", core(param));
        }
        for (number, param) in params.iter().enumerate() {
            let value = match core(param) {
                "i32" => "(i32.wrap_i64 (call $arg))",
                "i64" => "(call $arg)",
                "f32" => "(f32.reinterpret_i32 (i32.wrap_i64 (call $arg)))",
                _ => "(f64.reinterpret_i64 (call $arg))",
            };
            let _ = write!(calls, " (local.set $a{number} {value})");
        }
        calls.push_str(" (if (global.get $skip) (then (global.set $skip (i32.const 0)) (return)))");
        let args: String = (0..params.len()).map(|number| format!(" (local.get $a{number})")).collect();
        let call = format!("(call $host{index}{args})");
        if let Some(result) = result {
            let _ = write!(imports, " (result {})", core(result));
        }
        let kept = match result.as_ref().map(core) {
            None => call,
            Some("i32") => format!("(global.set $last (i64.extend_i32_u {call}))"),
            Some("i64") => format!("(global.set $last {call})"),
            Some("f32") => format!("(global.set $last (i64.extend_i32_u (i32.reinterpret_f32 {call})))"),
            Some(_) => format!("(global.set $last (i64.reinterpret_f64 {call}))"),
        };
        imports.push_str("))\n");
        let _ = writeln!(calls, " {kept})");
        let _ = write!(names, " $call{index}");
    }
    let count = functions.len();
    let ends: String = ENDS
        .iter()
        .enumerate()
        .map(|(way, end)| format!("(if (i32.eq (local.get $way) (i32.const {way})) (then {end}))\n"))
        .collect();
    include_str!("guest.wat")
        .replace(";; IMPORTS", &imports)
        .replace(";; CALLS", &calls)
        .replace(";; NAMES", &names)
        .replace(";; ENDS", &ends)
        .replace("END_COUNT", &ENDS.len().to_string())
        .replace("FUNCTION_COUNT", &count.to_string())
        .replace("PROGRAM_BYTES_MAX", &PROGRAM_BYTES_MAX.to_string())
        .replace("PROGRAM_AT", &PROGRAM.to_string())
}
