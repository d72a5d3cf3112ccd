//! Compiled code becomes executable here, and nowhere else.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Code that a compiler of ours has just made for this engine.
///
/// # Errors
/// It is of another version or configuration.
pub(super) fn from_compiler(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "deserialising runs what the code says; it comes from our own compiler")]
    // SAFETY: the bytes are what `Engine::precompile_component` gave, in this process or in a child that ran our
    // own program for this one workload. wasmtime itself refuses another version or configuration.
    unsafe {
        Component::deserialize(engine, code)
    }
}

/// Maps code from an open file whose seal was found good.
///
/// # Errors
/// It is of another version or configuration, or cannot be mapped.
pub(super) fn from_sealed_file(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    // wasmtime opens components by name only. This name is the open file itself, whatever the folder has by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "deserialising runs what the file says; our own key says that we wrote it")]
    // SAFETY: this file's seal was checked over all its bytes with a key that nobody but our own user can read, so
    // that it is what a compiler of ours made for this workload and engine. Nobody else can write to it. wasmtime
    // itself refuses another version or configuration.
    unsafe {
        Component::deserialize_file(engine, path)
    }
}
