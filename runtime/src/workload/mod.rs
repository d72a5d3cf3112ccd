//! A user's code, from the bytes of an upload to compiled code.
//!
//! Bytes are taken in by [`Workload::from_bytes`]: read within limits, validated, made into a component
//! and named by their digest. Nothing here trusts them: time, memory and depth of the stack are bounded
//! for whatever they are.

mod cache;
mod code;
mod compile;
mod componentize;
mod digest;
mod entry;
mod error;
mod guard;
mod imports;
pub mod inspect;
mod limits;
mod load;
mod nesting;
mod shown;
mod tally;
#[cfg(test)]
mod tests;
mod walk;
mod weigh;

use std::borrow::Cow;
use std::sync::Arc;

pub(crate) use cache::DiskCache;
pub use compile::{CompileError, CompileIn, CompileLimits, CompiledFrom, CompilerCommand, compile_worker};
pub(crate) use compile::{Compiled, Compiler, CompilerParts};
pub use digest::{Digest, InvalidDigest};
pub use error::IntakeError;
pub use imports::{check_imports, interface_of, matches};
pub use inspect::{Inspection, Shape, allowed_features};
pub use limits::IntakeLimits;

use guard::guarded;
use inspect::{Encoding, Form, Origin};
use walk::walk;

/// What every binary WebAssembly begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// What an ELF file begins with. wasmtime keeps compiled code in such.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Bytes that the preview 1 adapter and the encoder add to a module at most.
const ADAPTER_BYTES_MAX: u64 = 1 << 20;

/// A workload that was taken in: a valid component with an entry point. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workload {
    inner: Arc<Inner>,
}

struct Inner {
    digest: Digest,
    digest_text: Arc<str>,
    component: Vec<u8>,
    inspection: Inspection,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("digest", &self.digest)
            .field("component_bytes", &self.component.len())
            .finish_non_exhaustive()
    }
}

impl Workload {
    /// Takes in what a user uploaded: a component, or a core module that becomes one, in binary or text
    /// form.
    ///
    /// It takes about 30 ms a megabyte and holds a thread for so long; call it where that is allowed.
    ///
    /// # Errors
    /// The bytes are no workload that could ever run; the error says what and where.
    pub fn from_bytes(bytes: &[u8], limits: &IntakeLimits) -> Result<Workload, IntakeError> {
        at_most("bytes:", bytes.len(), limits.bytes_max)?;
        let (binary, encoding) = to_binary(bytes, limits)?;
        at_most("bytes of its binary form:", binary.len(), limits.bytes_max)?;
        let (component, inspection) = guarded("the WebAssembly parser", || {
            let origin = Origin { form: Form::Component, encoding, bytes: bytes.len() as u64 };
            to_component(binary, origin, limits)
        })??;
        let digest = Digest::of(bytes);
        let digest_text = digest.to_string().into();
        Ok(Workload { inner: Arc::new(Inner { digest, digest_text, component, inspection }) })
    }

    /// The digest of the bytes as they were uploaded: the workload's identity.
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// The digest as text, made once for all executions.
    pub(crate) fn digest_text(&self) -> &Arc<str> {
        &self.inner.digest_text
    }

    /// The component, in binary form.
    pub fn component(&self) -> &[u8] {
        &self.inner.component
    }

    /// What is known of it.
    pub fn inspection(&self) -> &Inspection {
        &self.inner.inspection
    }
}

fn at_most(what: &'static str, found: usize, limit: u64) -> Result<(), IntakeError> {
    let found = found as u64;
    if found <= limit { Ok(()) } else { Err(IntakeError::TooLarge { what, found, limit, offset: None }) }
}

/// The binary form of an upload.
fn to_binary<'a>(bytes: &'a [u8], limits: &IntakeLimits) -> Result<(Cow<'a, [u8]>, Encoding), IntakeError> {
    if bytes.starts_with(WASM_MAGIC) {
        return Ok((Cow::Borrowed(bytes), Encoding::Binary));
    }
    if bytes.starts_with(ELF_MAGIC) {
        return Err(IntakeError::Precompiled);
    }
    let Some(text) = as_text(bytes) else {
        return Err(IntakeError::NotWasm { begins: beginning(bytes) });
    };
    at_most("bytes of text:", bytes.len(), limits.text_bytes_max)?;
    let parsed = guarded("the parser of the text form", || wat::parse_str(text))?;
    let binary = parsed.map_err(|error| IntakeError::from_text(&error.to_string()))?;
    Ok((Cow::Owned(binary), Encoding::Text))
}

/// The bytes as text, if they begin as the text form does: with a parenthesis, after spaces and comments.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let is_text = guarded("the parser of the text form", || wat::Detect::from_bytes(bytes));
    if is_text != Ok(wat::Detect::WasmText) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

fn beginning(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "there are no bytes".to_owned();
    }
    let beginning = bytes.get(..16).unwrap_or(bytes);
    format!("it begins with \"{}\"", beginning.escape_ascii())
}

fn to_component(
    binary: Cow<'_, [u8]>,
    origin: Origin,
    limits: &IntakeLimits,
) -> Result<(Vec<u8>, Inspection), IntakeError> {
    let walked = walk(&binary, 0..binary.len(), limits)?;
    if walked.found.encoding == wasmparser::Encoding::Component {
        let inspection = inspect::inspect(walked, binary.len() as u64, origin)?;
        return Ok((binary.into_owned(), inspection));
    }
    let (component, form) = componentize::componentize(&binary, &walked, limits)?;
    drop(walked);
    at_most("bytes of the component:", component.len(), limits.bytes_max.saturating_add(ADAPTER_BYTES_MAX))?;
    let walked = walk(&component, 0..component.len(), limits)?;
    let inspection = inspect::inspect(walked, component.len() as u64, Origin { form, ..origin })?;
    Ok((component, inspection))
}
