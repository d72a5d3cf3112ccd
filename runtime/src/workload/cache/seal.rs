//! The end of every file in the cache: a keyed hash of what it is for and what is in it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use blake3::{Hash, Hasher, OUT_LEN};

use super::key::Key;
use crate::workload::Workload;

/// Says what is hashed, in which order. Another order needs another text.
const FORMAT: &[u8] = b"holm compiled component 1: engine, upload, component, code\0";

/// Bytes of the code that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Makes and checks the seal of one workload's code. wasmtime does not mind the bytes after its ELF file.
pub(super) struct Sealer {
    /// Has taken in all but the code.
    hasher: Hasher,
}

impl Sealer {
    /// `fingerprint` names the engine's configuration. The component counts besides the upload's digest: a module
    /// may be made into another component by another version of the tools.
    pub(super) fn new(key: &Key, fingerprint: &str, workload: &Workload) -> Self {
        let mut hasher = Hasher::new_keyed(key);
        hasher.update(FORMAT);
        hasher.update(&(fingerprint.len() as u64).to_le_bytes());
        hasher.update(fingerprint.as_bytes());
        hasher.update(workload.digest().as_bytes());
        hasher.update(blake3::hash(workload.component()).as_bytes());
        Sealer { hasher }
    }

    /// Writes the code with its seal.
    pub(super) fn write(mut self, code: &[u8], mut file: File) -> io::Result<()> {
        let seal = self.hasher.update(code).finalize();
        file.write_all(code)?;
        file.write_all(seal.as_bytes())
    }

    /// True if the seal of this file is good.
    pub(super) fn check(mut self, mut file: &File) -> io::Result<bool> {
        let Some(code_bytes) = file.metadata()?.len().checked_sub(OUT_LEN as u64) else { return Ok(false) };
        let mut code = file.take(code_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = code.read(&mut chunk)?;
            match chunk.get(..read) {
                None | Some([]) => break,
                Some(bytes) => _ = self.hasher.update(bytes),
            }
        }
        let mut seal = [0; OUT_LEN];
        file.read_exact(&mut seal)?;
        // Compared in constant time.
        Ok(self.hasher.finalize() == Hash::from_bytes(seal))
    }
}
