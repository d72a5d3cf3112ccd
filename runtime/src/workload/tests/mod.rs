//! Intake, tested by what comes in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]

mod accepted;
mod hostile;
mod mutated;
mod refused;

use super::{IntakeError, IntakeLimits, Workload};

/// A workload's entry point, which never returns.
const RUN: &str = r#"
    (core module $m
        (memory (export "memory") 1)
        (func (export "run") (param i32 i32) (result i32) unreachable)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (param "input" string) (result (result string (error string)))
        (canon lift (core func $i "run") (memory (core memory $i "memory"))
            (realloc (core func $i "realloc"))))
    (export "run" (func $run))"#;

/// A component in text form: a workload, and what else is in it.
fn workload(more: &str) -> String {
    format!("(component {more} {RUN})")
}

/// A WASI command, made of core Wasm by hand. `run` is the type of its entry point.
fn command(interface: &str, run: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run {run} (canon lift (core func $i "run")))
            (instance $command (export "run" (func $run)))
            (export "{interface}" (instance $command)))"#
    )
}

/// A command for WASI preview 1 that imports this.
fn preview1_command(imports: &str) -> String {
    format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#)
}

/// A core module that fits `RUN_WORLD`.
const RUN_MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "run") (param i32 i32) (result i32) unreachable)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))"#;

/// The world of a workload, as a component type declares it.
const RUN_WORLD: &str = r#"
    (type $result (result string (error string)))
    (type $run (func (param "input" string) (result $result)))
    (export "run" (func (type $run)))"#;

/// What a bindings generator puts into a core module.
fn component_type(world: &str) -> Vec<u8> {
    binary(&format!(
        r#"(component
            (type (component (type (component {world})) (export "test:test/world" (component (type 0)))))
            (export "world" (type 0))
            (@custom "wit-component-encoding" "\04\00"))"#
    ))
}

/// The module with a custom section at its end.
fn with_custom(module: &str, name: &str, contents: &[u8]) -> Vec<u8> {
    let contents = [&leb(name.len() as u64), name.as_bytes(), contents].concat();
    [binary(module), section(0, &contents)].concat()
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [&[id], &*leb(contents.len() as u64), contents].concat()
}

fn leb(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE_HEADER: &[u8] = b"\0asm\x01\0\0\0";

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [COMPONENT_HEADER, &sections.concat()].concat()
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [MODULE_HEADER, &sections.concat()].concat()
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn take(bytes: impl AsRef<[u8]>) -> Result<Workload, IntakeError> {
    Workload::from_bytes(bytes.as_ref(), &IntakeLimits::default())
}

/// The code and the sentence of a refusal.
#[track_caller]
fn refused(bytes: impl AsRef<[u8]>) -> (&'static str, String) {
    let error = take(bytes).unwrap_err();
    (error.code(), error.to_string())
}
