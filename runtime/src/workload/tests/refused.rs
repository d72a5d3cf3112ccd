//! Every refusal, and its sentence.

use super::*;
use crate::workload::IntakeLimits;

#[test]
fn what_is_not_wasm_is_told_by_its_beginning() {
    for (bytes, begins) in [
        (&b""[..], "there are no bytes"),
        (b"#!/bin/sh\nrm -rf /", "it begins with \"#!/bin/sh\\nrm -rf\""),
        (b"PK\x03\x04\x1b[2J\xff", "it begins with \"PK\\x03\\x04\\x1b[2J\\xff\""),
        (b";; only a comment", "it begins with \";; only a commen\""),
    ] {
        let (code, sentence) = refused(bytes);
        assert_eq!(code, "not_wasm");
        assert!(sentence.starts_with(&format!("not WebAssembly: {begins};")), "{sentence}");
    }
}

#[test]
fn precompiled_code_is_refused_by_name() {
    let (code, sentence) = refused(b"\x7fELF\x02\x01\x01\0.wasmtime");
    assert_eq!(code, "precompiled");
    assert!(sentence.contains(".cwasm") && sentence.contains("upload the `.wasm`"), "{sentence}");
}

#[test]
fn truncated_bytes_are_refused_with_the_offset() {
    let bytes = binary(&workload(""));
    for end in [4, 7, 9, bytes.len() / 2, bytes.len() - 1] {
        let (code, sentence) = refused(&bytes[..end]);
        assert_eq!(code, "malformed");
        assert!(sentence.starts_with("malformed at byte ") && sentence.contains(&format!(" of {end}: ")), "{sentence}");
    }
}

#[test]
fn an_invalid_body_is_refused_with_the_offset() {
    let (code, sentence) = refused(r#"(module (func (export "_start") i32.add))"#);
    assert_eq!(code, "malformed");
    assert_eq!(
        sentence,
        "malformed at byte 35 of 37: type mismatch: expected i32 but nothing on stack; build or upload it again"
    );
}

#[test]
fn text_that_does_not_parse_is_refused_with_its_line() {
    let (code, sentence) = refused("(module\n  (func $f\n    i32.nonsense))");
    assert_eq!(code, "malformed");
    assert_eq!(sentence, "malformed text at line 3, column 5: unknown operator or unexpected token");
}

#[test]
fn features_that_are_off_are_named() {
    for (feature, text) in [
        ("threads", "(module (memory 1 1 shared))"),
        ("threads", "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"),
        ("memory64", "(module (memory i64 1))"),
        ("memory64", "(module (table i64 1 funcref))"),
        ("multi-memory", "(module (memory 1) (memory 1))"),
        ("gc", "(module (type (struct (field i32))))"),
        ("gc-types", "(module (func (param externref)))"),
        ("function-references", "(module (type $t (func)) (func (param (ref $t))))"),
        ("exceptions", "(module (tag (param i32)))"),
        ("exceptions", "(module (func (try_table)))"),
        ("custom-page-sizes", "(module (memory 1 (pagesize 1)))"),
        (
            "wide-arithmetic",
            "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1))))",
        ),
        ("stack-switching", "(module (type $f (func)) (type $c (cont $f)))"),
        (
            "relaxed-simd",
            "(module (func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
        ),
        ("cm-async", "(component (type (stream u8)))"),
        ("cm-async", "(component (core func (canon waitable-set.new)))"),
        ("cm-error-context", "(component (type error-context))"),
        ("cm-values", r#"(component (import "a" (value string)))"#),
        ("cm-map", "(component (type (map u8 u8)))"),
        ("cm-fixed-length-lists", "(component (type (list u8 4)))"),
    ] {
        let (code, sentence) = refused(text);
        assert_eq!(code, "feature_off", "{text}: {sentence}");
        assert!(
            sentence.starts_with(&format!("the WebAssembly feature `{feature}` is switched off here: ")),
            "{sentence}"
        );
        assert!(sentence.contains(", at byte "), "{sentence}");
    }
}

#[test]
fn features_that_are_on_are_no_obstacle() {
    for code in [
        "(func (result v128) (v128.const i32x4 0 0 0 0))",
        "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
        "(func (result i32 i32) i32.const 0 i32.const 0)",
        "(func $f return_call $f)",
        "(global i32 (i32.add (i32.const 1) (i32.const 1)))",
        "(table 1 funcref) (table 1 funcref) (elem declare func $f) (func $f (table.set 1 (i32.const 0) (ref.func $f)))",
        "(func (param i32) (result i32) (i32.extend8_s (local.get 0)))",
        "(func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0)))",
        r#"(global (export "g") (mut i32) (i32.const 0))"#,
    ] {
        assert!(
            take(preview1_command("").replace("(func (export", &format!("{code} (func (export"))).is_ok(),
            "{code}"
        );
    }
}

#[test]
fn a_component_without_an_entry_point_is_told_what_it_exports() {
    let (code, sentence) = refused("(component)");
    assert_eq!(code, "no_entry_point");
    assert!(
        sentence.starts_with("no entry point: this component exports nothing; it must export `run: func("),
        "{sentence}"
    );
    let exports: String = (0..20).map(|n| format!(r#"(export "e{n}" (type $t))"#)).collect();
    let (_, sentence) = refused(format!("(component (type $t u8) {exports})"));
    assert!(sentence.contains("`e0`, `e1`, `e2`, `e3`, `e4`, `e5`, `e6`, `e7`, 12 more;"), "{sentence}");
    // Another version of the command interface is no entry point.
    assert_eq!(refused(command("wasi:cli/run@0.3.0", "(result (result))")).0, "no_entry_point");
}

#[test]
fn a_core_module_without_an_entry_point_is_told_what_would_do() {
    for (module, says) in [
        ("(module)", "exports nothing; it must export `_start`"),
        (r#"(module (func (export "main")))"#, "exports `main`; it must"),
        (r#"(module (func (export "a\1b[2J")))"#, "exports `a\\u{1b}[2J`; it must"),
        (
            r#"(module (import "env" "f" (func)) (func (export "_start")))"#,
            "exports `_start` and imports from `env`; it must",
        ),
        (
            r#"(module (func (export "_start") (param i32)))"#,
            "exports `_start`, where `_start` is not a function without",
        ),
        (
            r#"(module (import "wasi_unstable" "fd_close" (func (param i32) (result i32))) (func (export "_start")))"#,
            "imports from `wasi_unstable`;",
        ),
    ] {
        let (code, sentence) = refused(module);
        assert_eq!(code, "no_entry_point");
        assert!(sentence.contains(says) && sentence.contains("carry a component type"), "{sentence}");
    }
}

#[test]
fn an_entry_point_of_another_type_is_refused_with_both_types() {
    let lifted = |ty: &str, core: &str| {
        format!(
            r#"(component
                (core module $m (memory (export "memory") 1) (func (export "f") {core} unreachable)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
                (core instance $i (instantiate $m))
                (func $run {ty} (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
                (export "run" (func $run)))"#
        )
    };
    for (ty, core, shown) in [
        ("", "", "func()"),
        (r#"(param "input" string) (result string)"#, "(param i32 i32) (result i32)", "func(input: string) -> string"),
        (
            r#"(param "input" (list u8)) (result (result string (error string)))"#,
            "(param i32 i32) (result i32)",
            "func(input: list<u8>) -> result<string, string>",
        ),
        (
            r#"(param "a" string) (param "b" u32) (result (result string))"#,
            "(param i32 i32 i32) (result i32)",
            "func(a: string, b: u32) -> result<string>",
        ),
    ] {
        let (code, sentence) = refused(lifted(ty, core));
        assert_eq!(code, "wrong_type");
        let says = format!("the export `run` is {shown}; it must be func(input: string) -> result<string, string>");
        assert!(sentence.contains(&says), "{sentence}");
    }
    let (code, sentence) = refused(r#"(component (instance $i) (export "run" (instance $i)))"#);
    assert_eq!(code, "wrong_type");
    assert!(sentence.contains("the export `run` is an interface;"), "{sentence}");
}

#[test]
fn a_command_interface_of_another_type_is_refused() {
    let (code, sentence) = refused(command("wasi:cli/run@0.2.3", "(result u32)"));
    assert_eq!(code, "wrong_type");
    assert!(
        sentence.contains("`wasi:cli/run@0.2.3` is an interface with `run: func() -> u32`; it must be"),
        "{sentence}"
    );
    let (code, sentence) = refused(r#"(component (instance $i) (export "wasi:cli/run@0.2.3" (instance $i)))"#);
    assert_eq!(code, "wrong_type");
    assert!(sentence.contains("an interface without `run`"), "{sentence}");
}

#[test]
fn what_cannot_become_a_component_says_why() {
    let nonsense = r#"(import "wasi_snapshot_preview1" "nonsense" (func))"#;
    for (module, says) in [
        (binary(&preview1_command(nonsense)), "did not export `nonsense`"),
        (binary(r#"(module (func (export "_start")))"#), "exports no memory with the name `memory`"),
        (with_custom("(module)", "component-type", &component_type(RUN_WORLD)), "run"),
        (with_custom("(module)", "component-type", &binary("(component)")), ""),
    ] {
        let (code, sentence) = refused(module);
        assert_eq!(code, "not_componentizable", "{sentence}");
        assert!(sentence.contains(says), "{sentence}");
    }
    // Damage inside the component type is found where it is.
    let (code, sentence) = refused(with_custom("(module)", "component-type", b"\0asm\x0d\0\x01\0\x07\x05"));
    assert_eq!(
        (code, sentence.as_str()),
        ("malformed", "malformed at byte 35 of 35: unexpected end-of-file; build or upload it again")
    );
}

#[test]
fn modules_and_components_from_outside_are_refused() {
    for text in [
        r#"(component (import "m" (core module)))"#,
        r#"(component (import "c" (component)))"#,
        r#"(component (import "i" (instance $i (export "m" (core module)))) (alias export $i "m" (core module)))"#,
    ] {
        let (code, sentence) = refused(text);
        assert_eq!(code, "unsupported", "{sentence}");
        assert!(sentence.contains("at byte"), "{sentence}");
    }
}

#[test]
fn each_limit_is_named_with_what_was_found() {
    let bytes = binary(&workload(r#"(import "a" (func)) (import "b" (func)) (component (type u8))"#));
    let limits = IntakeLimits::default();
    for (limits, says) in [
        (IntakeLimits { bytes_max: 10, ..limits }, "bytes: "),
        (IntakeLimits { modules_max: 0, ..limits }, "core modules: 1, at most 0"),
        (IntakeLimits { components_max: 1, ..limits }, "components: 2, at most 1"),
        (IntakeLimits { nesting_max: 1, ..limits }, "levels of components in one another: 2, at most 1"),
        (IntakeLimits { functions_max: 1, ..limits }, "functions: 2, at most 1"),
        (IntakeLimits { types_max: 1, ..limits }, "types: 2, at most 1"),
        (IntakeLimits { imports_max: 1, ..limits }, "imports: 2, at most 1"),
        (IntakeLimits { exports_max: 2, ..limits }, "exports: 3, at most 2"),
        (IntakeLimits { definitions_max: 1, ..limits }, "aliases and canonical functions: "),
        (IntakeLimits { instances_max: 0, ..limits }, "instances: 1, at most 0"),
        (IntakeLimits { memories_max: 0, ..limits }, "memories: 1, at most 0"),
        (IntakeLimits { memory_bytes_max: 65_535, ..limits }, "initial memory in bytes: 65536, at most 65535"),
        (IntakeLimits { type_steps_max: 100, ..limits }, "steps to check the types: "),
        (IntakeLimits { code_steps_max: 1, ..limits }, "steps to check the code: "),
    ] {
        let error = Workload::from_bytes(&bytes, &limits).unwrap_err();
        assert_eq!(error.code(), "too_large", "{error}");
        assert!(error.to_string().starts_with(&format!("too large: {says}")), "{error}");
    }
    let limits = IntakeLimits { text_bytes_max: 10, ..limits };
    assert_eq!(Workload::from_bytes(workload("").as_bytes(), &limits).unwrap_err().code(), "too_large");
}
