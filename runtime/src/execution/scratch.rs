//! Scratch folders: an execution's own, made empty before it and removed after it, in whatever way it ends.
//!
//! They lie below one root, in a folder for each runtime, which that runtime holds a lock on as long as it is
//! there. A folder that nobody holds a lock on is what a killed process left: the next runtime removes it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _};
use holm_host_api::HostError;
use uuid::Uuid;

/// What the folders of runtimes are called. Nothing else in the root is ever touched.
const RUNTIME_PREFIX: &str = "runtime-";

/// A call of the guest's that was given up may be on its way to the kernel still, and make a file in a folder
/// that is being emptied: it is emptied again, this often and after this long.
const REMOVE_ATTEMPTS: u32 = 10;
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Where a runtime makes the scratch folders of its executions.
pub(crate) struct ScratchRoot {
    root: Dir,
    /// This runtime's folder in the root.
    own: Dir,
    name: String,
    /// Holds the lock on that folder.
    _lock: File,
}

impl ScratchRoot {
    /// Opens or makes the root, makes this runtime's folder in it, and removes what killed processes left.
    ///
    /// # Errors
    /// It cannot be made or written to, or others than its owner can write to it.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, HostError> {
        let failed = |error: io::Error| {
            HostError::new(format!("the folder for scratch folders {} cannot be used: {error}", path.display()))
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
        let locked = file(&root).map_err(failed)?;
        let metadata = locked.metadata().map_err(failed)?;
        if metadata.mode() & 0o022 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(HostError::new(format!(
                "the folder for scratch folders {} is not safe, as others can write to it; `chmod 700` it or choose \
                 another",
                path.display()
            )));
        }
        // A folder that was just made is not locked yet: nobody else may look for such folders meanwhile.
        locked.lock().map_err(failed)?;
        let name = format!("{RUNTIME_PREFIX}{}", Uuid::now_v7());
        let own = make(&root, &name).map_err(failed)?;
        let lock = file(&own).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let left = left_behind(&root, &name).map_err(failed)?;
        locked.unlock().map_err(failed)?;
        for (name, folder, _lock) in left {
            if let Err(error) = remove(&root, OsStr::new(&name), &folder) {
                tracing::warn!("scratch folders that a killed process left cannot be removed: {name}: {error}");
            }
        }
        Ok(Arc::new(ScratchRoot { root, own, name, _lock: lock }))
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.root, OsStr::new(&self.name), &self.own) {
            tracing::warn!("the folder {} for scratch folders cannot be removed: {error}", self.name);
        }
    }
}

/// The folders that no runtime holds, locked, so that only one of those that look removes them.
fn left_behind(root: &Dir, own: &str) -> io::Result<Vec<(String, Dir, File)>> {
    let mut left = Vec::new();
    for entry in root.entries()? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !name.starts_with(RUNTIME_PREFIX) || name == own {
            continue;
        }
        if let Ok(folder) = root.open_dir(&name)
            && let Ok(lock) = file(&folder)
            && lock.try_lock().is_ok()
        {
            left.push((name, folder, lock));
        }
    }
    Ok(left)
}

/// An execution's scratch folder. It is removed when this is dropped.
pub(crate) struct ScratchFolder {
    root: Arc<ScratchRoot>,
    name: String,
    folder: Dir,
    removed: bool,
}

impl ScratchFolder {
    /// Makes an empty folder that no other execution knows of.
    ///
    /// # Errors
    /// The disk has no room for it, or fails.
    pub(crate) async fn make(root: &Arc<ScratchRoot>) -> Result<Self, HostError> {
        let root = Arc::clone(root);
        let made = blocking(move || {
            let name = Uuid::now_v7().to_string();
            let folder = make(&root.own, &name)?;
            Ok(ScratchFolder { root, name, folder, removed: false })
        });
        made.await.map_err(|error| HostError::new("the scratch folder could not be made").because(error))
    }

    /// The folder, to work in.
    ///
    /// # Errors
    /// The process has too many files open.
    pub(crate) fn open(&self) -> Result<File, HostError> {
        file(&self.folder).map_err(|error| HostError::new("the scratch folder could not be opened").because(error))
    }

    /// Removes it and all that is in it, where that holds up no guest.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub(crate) async fn remove(mut self) -> io::Result<()> {
        blocking(move || self.remove_now()).await
    }

    fn remove_now(&mut self) -> io::Result<()> {
        self.removed = true;
        remove(&self.root.own, OsStr::new(&self.name), &self.folder)
    }
}

impl Drop for ScratchFolder {
    /// For an execution that was given up on the way: where the host's code panicked, or its threads ended.
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.remove_now()
        {
            tracing::warn!("a scratch folder cannot be removed: {error}");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn make(parent: &Dir, name: &str) -> io::Result<Dir> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    parent.create_dir_with(name, &builder)?;
    parent.open_dir(name)
}

/// The folder as a file that can be locked and asked; a `Dir` is only a place to begin paths at.
fn file(dir: &Dir) -> io::Result<File> {
    dir.open(".").map(cap_std::fs::File::into_std)
}

fn remove(parent: &Dir, name: &OsStr, folder: &Dir) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        let removed = empty(folder).and_then(|()| parent.remove_dir(name));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if attempt < REMOVE_ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(REMOVE_AGAIN_AFTER);
            }
            removed => return removed,
        }
    }
}

/// Removes all that is in a folder. What is in a folder within it is moved up before that is removed: so neither
/// the stack nor the number of open files grows with the depth, nor does any path.
fn empty(folder: &Dir) -> io::Result<()> {
    loop {
        let mut left = Ok(());
        let mut progress = false;
        for entry in folder.entries()? {
            match remove_entry(folder, &entry?.file_name()) {
                Ok(()) => progress = true,
                Err(error) => left = Err(error),
            }
        }
        if !progress {
            return left;
        }
    }
}

fn remove_entry(folder: &Dir, name: &OsStr) -> io::Result<()> {
    if folder.remove_file(name).is_ok() || folder.remove_dir(name).is_ok() {
        return Ok(());
    }
    let inner = folder.open_dir(name)?;
    for entry in inner.entries()? {
        let name = entry?.file_name();
        if inner.remove_file(&name).is_err() && inner.remove_dir(&name).is_err() {
            inner.rename(&name, folder, Uuid::now_v7().to_string())?;
        }
    }
    folder.remove_dir(name)
}

#[cfg(test)]
mod tests;
