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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use super::*;
    use crate::workload::IntakeLimits;

    const KEY: Key = [1; 32];

    fn workload(comment: &str) -> Workload {
        let text = format!(
            "(component (import \"{comment}\" (func $f)) (core module $m (memory (export \"m\") 1)
            (func (export \"r\") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export \"f\") (param i32 i32) (result i32) unreachable)) (core instance $i (instantiate $m))
            (func (export \"run\") (param \"input\" string) (result (result string (error string)))
                (canon lift (core func $i \"f\") (memory $i \"m\") (realloc (func $i \"r\")))))"
        );
        Workload::from_bytes(text.as_bytes(), &IntakeLimits::default()).unwrap()
    }

    fn sealed(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        Sealer::new(&KEY, "engine", &workload("a")).write(bytes, file.try_clone().unwrap()).unwrap();
        rewound(file)
    }

    fn rewound(mut file: File) -> File {
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    #[test]
    fn a_seal_is_good_for_what_it_was_made_for_and_nothing_else() {
        let good = |sealer: Sealer| sealer.check(&sealed(b"code")).unwrap();
        assert!(good(Sealer::new(&KEY, "engine", &workload("a"))));
        assert!(!good(Sealer::new(&[2; 32], "engine", &workload("a"))), "another key");
        assert!(!good(Sealer::new(&KEY, "engines", &workload("a"))), "another engine");
        assert!(!good(Sealer::new(&KEY, "engine", &workload("b"))), "another workload");
    }

    #[test]
    fn every_bit_counts() {
        let code = vec![0x5a; CHUNK_BYTES + 100];
        let length = code.len() + OUT_LEN;
        let check = |file: File| Sealer::new(&KEY, "engine", &workload("a")).check(&rewound(file)).unwrap();
        assert!(check(sealed(&code)));
        for at in [0, 1, CHUNK_BYTES, code.len() - 1, code.len(), length - 1] {
            let mut file = sealed(&code);
            let mut byte = [0];
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte[0] ^ 1]).unwrap();
            assert!(!check(file), "byte {at}");
        }
        for length in [0, 1, OUT_LEN, length - 1, length + 1] {
            let file = sealed(&code);
            file.set_len(length as u64).unwrap();
            assert!(!check(file), "{length} bytes");
        }
    }
}
