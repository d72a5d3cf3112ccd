//! Every form that is taken in.

use super::*;
use crate::workload::inspect::{Encoding, Form, Import};
use crate::workload::{Digest, Shape, check_imports};

#[test]
fn a_component_with_the_entry_point_is_a_workload() {
    let text = workload("");
    let bytes = binary(&text);
    let taken = take(&bytes).unwrap();
    assert_eq!(taken.digest(), &Digest::of(&bytes));
    assert_eq!(taken.component(), bytes);
    let inspection = taken.inspection();
    assert_eq!(
        (inspection.shape, inspection.form, inspection.encoding),
        (Shape::Workload, Form::Component, Encoding::Binary)
    );
    assert_eq!((inspection.bytes, inspection.component_bytes), (bytes.len() as u64, bytes.len() as u64));
    assert_eq!(inspection.exports, ["run"]);
    assert_eq!(inspection.imports, []);
    assert_eq!((inspection.counts.core_modules, inspection.counts.functions), (1, 2));
    assert_eq!((inspection.footprint.core_instances, inspection.footprint.memory_bytes), (1, 65_536));
}

#[test]
fn text_is_taken_too_and_its_identity_is_that_of_the_text() {
    let text = format!(";; a comment\n(; another ;) {}", workload(""));
    let taken = take(&text).unwrap();
    assert_eq!(taken.digest(), &Digest::of(text.as_bytes()));
    assert_eq!(taken.component(), binary(&text));
    assert_eq!(taken.inspection().encoding, Encoding::Text);
    assert_eq!(taken.inspection().bytes, text.len() as u64);
}

#[test]
fn a_wasi_command_is_a_command_whatever_its_patch_version() {
    for version in ["0.2.0", "0.2.12"] {
        let taken = take(command(&format!("wasi:cli/run@{version}"), "(result (result))")).unwrap();
        assert_eq!((taken.inspection().shape, taken.inspection().form), (Shape::Command, Form::Component));
    }
}

#[test]
fn a_preview_1_command_becomes_a_command() {
    let write = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    for imports in ["", write] {
        for bytes in [preview1_command(imports).into_bytes(), binary(&preview1_command(imports))] {
            let taken = take(&bytes).unwrap();
            let inspection = taken.inspection();
            assert_eq!((inspection.shape, inspection.form), (Shape::Command, Form::Preview1Command));
            assert_eq!(taken.digest(), &Digest::of(&bytes));
            assert!(inspection.component_bytes > inspection.bytes);
            assert!(inspection.imports.iter().all(|import| import.name.starts_with("wasi:")));
        }
    }
}

#[test]
fn a_core_module_with_a_component_type_becomes_that_component() {
    let taken = take(with_custom(RUN_MODULE, "component-type:test", &component_type(RUN_WORLD))).unwrap();
    assert_eq!((taken.inspection().shape, taken.inspection().form), (Shape::Workload, Form::CoreModule));
}

#[test]
fn such_a_module_may_import_interfaces_and_preview_1() {
    let module = r#"(module
        (import "holm:host/clock@0.1.0" "now" (func (result i64)))
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "run") (param i32 i32) (result i32) unreachable)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))"#;
    let world = format!(
        r#"(type $clock (instance (type $now (func (result u64))) (export "now" (func (type $now)))))
        (import "holm:host/clock@0.1.0" (instance (type $clock)))
        {RUN_WORLD}"#
    );
    let taken = take(with_custom(module, "component-type", &component_type(&world))).unwrap();
    let imports = &taken.inspection().imports;
    assert!(imports.contains(&Import { name: "holm:host/clock@0.1.0".into(), functions: vec!["now".into()] }));
    assert!(imports.iter().any(|import| import.name.starts_with("wasi:random/random@0.2.")));
}

#[test]
fn a_command_that_imports_interfaces_by_a_component_type_is_a_command() {
    let module = r#"(module
        (import "holm:host/clock@0.1.0" "now" (func (result i64)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let world = r#"
        (type $clock (instance (type $now (func (result u64))) (export "now" (func (type $now)))))
        (import "holm:host/clock@0.1.0" (instance (type $clock)))"#;
    let taken = take(with_custom(module, "component-type", &component_type(world))).unwrap();
    assert_eq!((taken.inspection().shape, taken.inspection().form), (Shape::Command, Form::CoreModule));
}

#[test]
fn imports_are_listed_with_the_functions_that_are_taken() {
    let taken = take(workload(
        r#"(import "holm:host/llm@0.1.0" (instance
            (export "r" (type $r (sub resource)))
            (export "embed" (func)) (export "complete" (func)) (export "[method]r.get" (func (param "self" (borrow $r))))))
        (import "holm:host/types@0.1.0" (instance $types (export "t" (type (sub resource)))))
        (alias export $types "t" (type $t))
        (import "t" (type (eq $t)))
        (import "log" (func (param "line" string)))"#,
    ))
    .unwrap();
    let imports = &taken.inspection().imports;
    let llm = ["[method]r.get", "complete", "embed"].map(String::from).to_vec();
    assert_eq!(
        imports,
        &[
            Import { name: "holm:host/llm@0.1.0".into(), functions: llm },
            Import { name: "holm:host/types@0.1.0".into(), functions: vec![] },
            Import { name: "log".into(), functions: vec![] },
        ]
    );
    assert_eq!(check_imports(taken.inspection(), |_| true, |_| true), Ok(()));
    let error = check_imports(taken.inspection(), |_| true, |import| import.ends_with("types@0.1.0")).unwrap_err();
    assert_eq!(error.code(), "import_not_granted");
    let sentence = error.to_string();
    assert!(sentence.contains("`holm:host/llm@0.1.0`, `log`;") && !sentence.contains("types"), "{sentence}");
}

#[test]
fn what_instantiation_makes_is_counted_through_nested_components() {
    let taken = take(workload(
        r#"(component $inner
            (core module $m (memory 2) (table 3 funcref))
            (core instance (instantiate $m)) (core instance (instantiate $m)))
        (component $outer (alias outer 1 $inner (component $again)) (instance (instantiate $again)))
        (instance (instantiate $inner)) (instance (instantiate $outer))"#,
    ))
    .unwrap();
    let footprint = taken.inspection().footprint;
    assert_eq!((footprint.core_instances, footprint.component_instances), (1 + 4, 3));
    assert_eq!((footprint.memories, footprint.memory_bytes), (1 + 4, (1 + 8) * 65_536));
    assert_eq!((footprint.tables, footprint.table_elements), (4, 12));
}

#[test]
fn the_inspection_is_plain_json_and_carries_nothing_that_steers_a_terminal() {
    let mut producers = vec![1];
    producers.extend([&*leb(8), b"language", &*leb(1), &*leb(7), b"R\x1b[2Jst", &*leb(2), b"\n1"].concat());
    let taken = take(with_custom(RUN_MODULE, "component-type", &component_type(RUN_WORLD))).unwrap();
    let json = serde_json::to_value(taken.inspection()).unwrap();
    assert_eq!(
        (&json["shape"], &json["form"], &json["encoding"]),
        (&"workload".into(), &"core_module".into(), &"binary".into())
    );
    assert_eq!(json["footprint"]["memory_bytes"], 65_536);
    assert!(json["producers"]["tools"][0].as_str().unwrap().starts_with("wit-component"));
    let taken = take(with_custom(&workload(""), "producers", &producers)).unwrap();
    assert_eq!(taken.inspection().producers.languages, ["R\\u{1b}[2Jst \\n1"]);
}
