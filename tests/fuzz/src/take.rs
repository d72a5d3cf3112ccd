//! What holds for whatever is uploaded.

use std::sync::LazyLock;

use holm_host_api::{Grants, sanitize_line};
use holm_runtime::workload::{CompileError, Digest, Inspection, IntakeLimits, Workload};

use crate::host::{host, small_budget};

/// Components up to this size are compiled and run. Compiling takes time that looking for inputs needs.
const COMPILED_BYTES_MAX: usize = 4 << 10;

static LIMITS: LazyLock<IntakeLimits> = LazyLock::new(IntakeLimits::default);

/// Takes an upload in, and checks the answer.
pub fn take(bytes: &[u8]) {
    let workload = match Workload::from_bytes(bytes, &LIMITS) {
        Ok(workload) => workload,
        Err(error) => {
            assert!(!error.code().is_empty());
            check_sentence(&error.to_string());
            return;
        }
    };
    check_taken(bytes, &workload);
    if workload.component().len() <= COMPILED_BYTES_MAX {
        compile_and_run(&workload);
    }
}

/// One line of clean text that is not too long to read.
fn check_sentence(sentence: &str) {
    assert!(!sentence.is_empty() && sentence.len() < 5_000, "{sentence:?}");
    assert_eq!(sanitize_line(sentence), sentence);
}

fn check_taken(bytes: &[u8], workload: &Workload) {
    assert_eq!(*workload.digest(), Digest::of(bytes));
    let text = workload.digest().to_string();
    assert_eq!(text.parse::<Digest>().as_ref(), Ok(workload.digest()));
    let again = Workload::from_bytes(bytes, &LIMITS).expect("it was taken before");
    assert_eq!(again.component(), workload.component(), "the component differs from time to time");
    let component = Workload::from_bytes(workload.component(), &LIMITS).expect("its component is taken");
    assert_eq!(component.component(), workload.component());
    assert_eq!(essence(component.inspection()), essence(workload.inspection()));
    let inspection = serde_json::to_string(workload.inspection()).expect("an inspection is JSON");
    assert_eq!(sanitize_line(&inspection), inspection);
}

/// What does not depend on how it was uploaded.
fn essence(inspection: &Inspection) -> String {
    let Inspection { shape, imports, exports, counts, footprint, component_bytes, .. } = inspection;
    format!("{shape:?} {imports:?} {exports:?} {counts:?} {footprint:?} {component_bytes}")
}

fn compile_and_run(workload: &Workload) {
    let host = host();
    // What would not be admitted is never compiled.
    let request = host.request(workload).budget(small_budget()).grants(Grants::all());
    if let Err(refusal) = host.runtime.check(&request) {
        check_sentence(&refusal);
        return;
    }
    match host.block_on(host.runtime.compile(workload)) {
        Ok(_) => drop(host.execute(request)),
        Err(CompileError::Refused(refusal) | CompileError::TookTooLong(refusal)) => check_sentence(&refusal),
        Err(CompileError::Host(error)) => panic!("{error}: {:?}", error.cause()),
    }
}
