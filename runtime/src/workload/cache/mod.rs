//! Compiled code on disk, by digest of the workload and configuration of the engine.
//!
//! The folder is the operator's alone: code in it runs with the rights of this process. It is made
//! readable and writable for its owner only, and one that others can write to is not used. Beyond that no file
//! is trusted for its place and name: each ends with a seal, which is checked before any of it runs.

mod key;
mod seal;

use std::fs::DirBuilder as StdDirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use holm_host_api::HostError;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::{Digest, Workload, load};
use key::Key;
use seal::Sealer;

/// Files under this name are being written, or were when the process ended.
const TEMPORARY: &str = ".tmp";

/// Nobody writes one file for so long.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// The cache folder of one engine configuration. Several processes may use it at once.
pub(crate) struct DiskCache {
    dir: Dir,
    path: PathBuf,
    key: Key,
    fingerprint: String,
}

impl DiskCache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// It cannot be made or opened, or others than its owner can write to it.
    pub(crate) fn open(root: &Path, fingerprint: &str) -> Result<Self, HostError> {
        let path = root.join("compiled").join(fingerprint);
        let failed = |what: &str, error: io::Error| {
            HostError::new(format!("the cache folder {} cannot be {what}: {error}", root.display()))
        };
        // Whatever the umask says: what others can write to is not used.
        StdDirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|error| failed("made", error))?;
        let root_dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| failed("opened", error))?;
        let compiled = own_folder_in(&root_dir, "compiled").map_err(|error| failed("written to", error))?;
        let dir = own_folder_in(&compiled, fingerprint).map_err(|error| failed("written to", error))?;
        // Each on the way: whoever can write to one can put another in the place of what is below.
        for (dir, below) in [(&root_dir, ""), (&compiled, "compiled"), (&dir, "compiled/…")] {
            if !is_own(dir).map_err(|error| failed("read", error))? {
                return Err(HostError::new(format!(
                    "the cache folder {} is not safe: compiled code in it would run with your rights, but others can \
                     write to it; `chmod 700` it or choose another with --cache-dir",
                    root.join(below).display()
                )));
            }
        }
        // In the folder that was named there may be others' files.
        for (dir, within) in [(&root_dir, key::TEMPORARY_BEGINS), (&dir, ".cwasm.")] {
            remove_leftovers(dir, within).map_err(|error| failed("read", error))?;
        }
        let key = key::get(&root_dir).map_err(|error| failed("given a key", error))?;
        Ok(DiskCache { dir, path, key, fingerprint: fingerprint.to_owned() })
    }

    /// Maps the compiled workload, if it is there and sealed by us for this workload and engine. A file that is
    /// not is left for [`store`](Self::store) to replace.
    pub(crate) fn load(&self, engine: &Engine, workload: &Workload) -> Option<Component> {
        let name = file_name(workload.digest());
        let file = match self.dir.open(&name) {
            Ok(file) => file.into_std(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.warn(workload, &error.to_string());
                return None;
            }
        };
        // From here on it is this open file, whatever the name stands for by then.
        match self.sealer(workload).check(&file) {
            Ok(true) => {}
            Ok(false) => {
                self.warn(workload, "it is damaged, or was not written here for this workload and engine");
                return None;
            }
            Err(error) => {
                self.warn(workload, &error.to_string());
                return None;
            }
        }
        load::from_sealed_file(engine, &file).inspect_err(|error| self.warn(workload, &format!("{error:#}"))).ok()
    }

    /// Keeps the code of a workload. A cache that cannot be written only costs time, so it is no error.
    pub(crate) fn store(&self, workload: &Workload, code: &[u8]) {
        let name = file_name(workload.digest());
        // Readers see the whole file with its seal or none: it is written under a name of its own and then renamed.
        let temporary = format!("{name}.{}{TEMPORARY}", uuid::Uuid::now_v7());
        let stored = self
            .dir
            .open_with(&temporary, OpenOptions::new().write(true).create_new(true).mode(0o600))
            .and_then(|file| self.sealer(workload).write(code, file.into_std()))
            .and_then(|()| self.dir.rename(&temporary, &self.dir, &name));
        if let Err(error) = stored {
            let _ = self.dir.remove_file(&temporary);
            tracing::warn!(digest = %workload.digest(), "the compiled workload could not be cached: {error}");
        }
    }

    fn sealer(&self, workload: &Workload) -> Sealer {
        Sealer::new(&self.key, &self.fingerprint, workload)
    }

    fn warn(&self, workload: &Workload, reason: &str) {
        let digest = workload.digest();
        let folder = self.path.display();
        tracing::warn!(%digest, "a compiled workload in {folder} is not used and is compiled anew: {reason}");
    }
}

fn own_folder_in(dir: &Dir, name: &str) -> io::Result<Dir> {
    let mut builder = DirBuilder::new();
    dir.create_dir_with(name, builder.mode(0o700).recursive(true))?;
    dir.open_dir(name)
}

/// Nobody else can write to it.
fn is_own(dir: &Dir) -> io::Result<bool> {
    let metadata = dir.dir_metadata()?;
    Ok(metadata.mode() & 0o022 == 0 && metadata.uid() == rustix::process::geteuid().as_raw())
}

fn file_name(digest: &Digest) -> String {
    format!("{}.cwasm", digest.to_hex())
}

/// Removes what processes left that ended while they wrote. That it cannot be removed hurts nobody.
fn remove_leftovers(dir: &Dir, within: &str) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.contains(within) && name.ends_with(TEMPORARY)) {
            continue;
        }
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|written| SystemTime::now().duration_since(written.into_std()).ok());
        if age.is_some_and(|age| age > TEMPORARY_AGE_MAX) {
            let _ = entry.remove_file();
        }
    }
    Ok(())
}
