//! Bytes made to take time, memory or stack.

use std::time::{Duration, Instant};

use super::*;

/// Generous for a debug build on a busy machine. Without the limits each of these takes minutes, all
/// memory, or the process.
const TIME_MAX: Duration = Duration::from_secs(30);

#[track_caller]
fn too_large(bytes: impl AsRef<[u8]>, says: &str) {
    let started = Instant::now();
    let (code, sentence) = refused(bytes);
    assert!(started.elapsed() < TIME_MAX, "{:?}", started.elapsed());
    assert_eq!(code, "too_large", "{sentence}");
    assert!(sentence.contains(says), "{sentence}");
}

/// One type in which each of `levels` has the next in it, three bytes each.
fn nested_type(levels: usize) -> Vec<u8> {
    let contents = [&[1], &*[0x41, 1, 1].repeat(levels), &[0x7f]].concat();
    component(&[section(7, &contents)])
}

#[test]
fn deep_types_do_not_use_up_the_stack() {
    too_large(nested_type(4_000_000), "levels of types in one another: 17, at most 16");
    too_large(with_custom(RUN_MODULE, "component-type", &nested_type(1_000_000)), "levels of types");
}

#[test]
fn deep_components_do_not_use_up_the_stack() {
    let mut bytes = component(&[]);
    while bytes.len() < 100_000 {
        bytes = component(&[section(4, &bytes)]);
    }
    too_large(bytes, "levels of components in one another: 17, at most 16");
}

#[test]
fn deep_text_does_not_use_up_the_stack() {
    assert_eq!(refused("(".repeat(200_000)).0, "malformed");
    assert_eq!(refused(format!("(component {}", "(type (component ".repeat(10_000))).0, "malformed");
    assert_eq!(refused("(;".repeat(100_000)).0, "not_wasm");
}

#[test]
fn instances_of_instances_do_not_panic() {
    let chain: String = (1..200).map(|n| format!(r#"(instance $i{n} (export "a" (instance $i{})))"#, n - 1)).collect();
    too_large(
        format!("(component (component $c) (instance $i0 (instantiate $c)) {chain})"),
        "levels of types in one another: 101",
    );
}

#[test]
fn components_that_double_at_each_level_are_counted_before_they_are_made() {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..12 {
        let inner = level - 1;
        text = format!(
            "(component $c{level} {text} (instance (instantiate $c{inner})) (instance (instantiate $c{inner})))"
        );
    }
    too_large(format!("(component {text} (instance (instantiate $c11)))"), "instances: ");
}

#[test]
fn types_that_double_at_each_level_are_weighed_at_each_use() {
    let doubling: String = (1..16).map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1)).collect();
    let imports: String = (0..1_000).map(|n| format!(r#"(import "f{n}" (func (type $f)))"#)).collect();
    let types = format!(r#"(type $t0 (tuple u8 u8)) {doubling} (type $f (func (param "a" $t15)))"#);
    let (code, sentence) = refused(format!("(component {types} {imports})"));
    // wasmparser's own limit on the sum of one component's types is reached first.
    assert_eq!(code, "malformed");
    assert!(sentence.contains("effective type size exceeds the limit"), "{sentence}");
    let few = r#"(import "a" (func (type $f))) (import "b" (func (type $f)))"#;
    let components = format!("(component (alias outer 1 $f (type $f)) {few})").repeat(400);
    too_large(format!("(component {types} {components})"), "steps to check the types: ");
}

#[test]
fn interfaces_that_are_imported_over_and_over_are_weighed_each_time() {
    let functions: String = (0..500).map(|n| format!(r#"(export "f{n}" (func (type $f)))"#)).collect();
    let interface = format!(
        r#"(type $i (instance (export "r" (type $r (sub resource))) (type $b (borrow $r)) (type $f (func (param "a" $b))) {functions}))"#
    );
    let imports: String = (0..200).map(|n| format!(r#"(import "i{n}" (instance (type $i)))"#)).collect();
    let component = format!("(component (alias outer 1 $i (type $i)) {imports})");
    too_large(format!("(component {interface} {})", component.repeat(25)), "steps to check the types: ");
}

#[test]
fn branch_tables_are_charged_for_every_target() {
    let ty = [&[2, 0x60, 0], &*leb(900), &[0x7f; 900], &[0x60, 0, 0]].concat();
    let targets = 1_000_000;
    let code = [&[0, 0x02, 0, 0, 0x0e], &*leb(targets), &vec![0; targets as usize + 1], &[0x0b, 0, 0x0b]].concat();
    let code = [&[1], &*leb(code.len() as u64), &code].concat();
    too_large(module(&[section(1, &ty), section(3, &[1, 1]), section(10, &code)]), "steps to check the code: ");
}

#[test]
fn long_lists_are_counted_before_they_are_read() {
    let empty_module = section(1, &module(&[]));
    too_large(component(&[empty_module.repeat(100_000)]), "core modules: 501, at most 500");
    too_large(module(&[section(0, &[0]).repeat(100_000)]), "custom sections: 5001, at most 5000");
    let declarations = [&[1, 0x42], &*leb(900_000), &[1, 0x7f].repeat(900_000)].concat();
    too_large(component(&[section(7, &declarations)]), "types: 100001, at most 100000");
    // A count that no bytes follow.
    for id in [1, 2, 3, 6, 7, 9, 11] {
        let (code, _) = refused(module(&[section(id, &leb(u32::MAX.into()))]));
        assert!(code == "too_large" || code == "malformed");
    }
    let types = component_type(RUN_WORLD);
    let many =
        [binary(RUN_MODULE), section(0, &[&leb(14), &b"component-type"[..], &types].concat()).repeat(1_000)].concat();
    too_large(many, "embedded component types: 1000, at most 50");
}

#[test]
fn memory_and_tables_of_the_start_are_summed() {
    too_large(preview1_command("").replace("1)", "32768)"), "initial memory in bytes: 2147483648, at most 1073741824");
    let tables = "(table 400000 funcref) ".repeat(3);
    too_large(preview1_command("").replace("(memory", &format!("{tables} (memory")), "initial table elements: 1200000");
}
