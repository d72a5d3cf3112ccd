//! Uploads: any bytes, text and binary, and seeds that are changed within their frame.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use arbitrary::Unstructured;
use holm_fuzz::{mutate, panics, take::take};
use libfuzzer_sys::fuzz_target;

/// An input that begins so says how a seed is changed. Everything else is an upload as it is.
const CHANGES: u8 = 1;

/// The seeds in binary form.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/intake");
    let mut paths: Vec<_> = folder.read_dir().expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    // What an input means must not depend on the order of a folder.
    paths.sort();
    paths.iter().filter_map(|path| wat::parse_bytes(&std::fs::read(path).ok()?).map(Into::into).ok()).collect()
});

fuzz_target!(init: panics::end_the_process(), |bytes: &[u8]| {
    match bytes.split_first() {
        Some((&CHANGES, changes)) => {
            if let Ok(bytes) = mutate::mutated(&SEEDS, &mut Unstructured::new(changes)) {
                take(&bytes);
            }
        }
        _ => take(bytes),
    }
});
