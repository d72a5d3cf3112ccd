//! Compiled code on disk, by digest of the workload and configuration of the engine.
//!
//! The folder is the operator's alone: code in it runs with the rights of this process. It is made
//! readable and writable for its owner only, and one that others can write to is not used.

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, MetadataExt as _};
use holm_host_api::HostError;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Digest;

/// The cache folder of one engine configuration.
pub(crate) struct DiskCache {
    dir: Dir,
    path: PathBuf,
}

impl DiskCache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// It cannot be made or opened, or others than its owner can write to it.
    pub(crate) fn open(root: &Path, fingerprint: &str) -> Result<Self, HostError> {
        let path = root.join("compiled").join(fingerprint);
        let failed = |what: &str, error: std::io::Error| {
            HostError::new(format!("the cache folder {} cannot be {what}: {error}", root.display()))
        };
        std::fs::create_dir_all(root).map_err(|error| failed("made", error))?;
        let root_dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| failed("opened", error))?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        root_dir
            .create_dir_with(Path::new("compiled"), &builder)
            .and_then(|()| root_dir.create_dir_with(Path::new("compiled").join(fingerprint), &builder))
            .map_err(|error| failed("written to", error))?;
        let dir =
            root_dir.open_dir(Path::new("compiled").join(fingerprint)).map_err(|error| failed("opened", error))?;
        let metadata = dir.dir_metadata().map_err(|error| failed("read", error))?;
        let owner = rustix::process::geteuid().as_raw();
        if metadata.mode() & 0o022 != 0 || metadata.uid() != owner {
            return Err(HostError::new(format!(
                "the cache folder {} is not safe: compiled code in it would run with your rights, but others can \
                 write to it; `chmod 700` it or choose another with --cache-dir",
                path.display()
            )));
        }
        Ok(DiskCache { dir, path })
    }

    /// Maps the compiled workload, if it is there and good.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let name = file_name(digest);
        if !self.dir.exists(&name) {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "deserialising runs what the file says; only the owner of this process can write it"
        )]
        // SAFETY: `open` made sure that nobody but our own user can write to this folder, and we put
        // nothing there but what `Component::serialize` gave for this engine configuration. wasmtime
        // itself refuses a file of another version or configuration.
        let loaded = unsafe { Component::deserialize_file(engine, self.path.join(&name)) };
        loaded
            .inspect_err(|error| {
                tracing::warn!(%digest, "a compiled workload in the cache is damaged and is compiled anew: {error:#}");
                let _ = self.dir.remove_file(&name);
            })
            .ok()
    }

    /// Keeps the compiled workload. A cache that cannot be written only costs time, so it is no error.
    pub(crate) fn store(&self, digest: &Digest, component: &Component) {
        let name = file_name(digest);
        // Readers see the whole file or none: it is written under a name of its own and then renamed.
        let temporary = format!("{name}.{}.tmp", uuid::Uuid::now_v7());
        let stored = component.serialize().map_err(|error| format!("{error:#}")).and_then(|code| {
            self.dir
                .write(&temporary, code)
                .and_then(|()| self.dir.rename(&temporary, &self.dir, &name))
                .map_err(|error| error.to_string())
        });
        if let Err(error) = stored {
            let _ = self.dir.remove_file(&temporary);
            tracing::warn!(%digest, "the compiled workload could not be cached: {error}");
        }
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}.cwasm", digest.to_hex())
}
