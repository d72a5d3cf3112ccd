//! Files: the folders that the caller gave, and the scratch folder, whose use is counted.
//!
//! Both are `wasmtime-wasi`'s to work on: it confines every path to its folder. A call that may change the
//! scratch folder is preceded by a charge and followed by an account of what it did, in [`quota`]. One such
//! call is under way at a time, the writes of streams included, so that sizes stay as they were measured.

mod host;
mod quota;
mod streams;

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorType, ErrorCode, HostDescriptor as _, MetadataHashValue, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::{FsPerms, OpenMode};

use self::quota::{FileId, Opened, Quota, Seen};
use crate::{Exhausted, Meter};

/// Fuel for what is asked of the kernel, which happens on another thread, in units of about a nanosecond.
const FUEL_PER_QUESTION: u64 = 5_000;

/// The kernel takes no longer path. One that is longer is not copied to be looked for.
const PATH_BYTES_MAX: usize = 4096;

/// The files of one execution.
#[derive(Default)]
pub(crate) struct Files {
    /// Listings of folders that the guest holds: each is kept in memory as a whole.
    listings: usize,
    scratch: Option<Box<Scratch>>,
}

struct Scratch {
    guest: String,
    /// The folder itself. It has no name that the guest could remove.
    dir: Dir,
    folder: Arc<Opened>,
    /// What the guest holds open of it, by handle.
    descriptors: HashMap<u32, Arc<Opened>>,
}

impl Files {
    pub(super) fn with_scratch(meter: Arc<Meter>, folder: File, guest: String) -> Self {
        let dir = Dir::new(folder, FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE, false);
        let folder = Opened::root(Arc::new(Quota::new(meter)), Arc::clone(&dir.dir));
        Files { listings: 0, scratch: Some(Box::new(Scratch { guest, dir, folder, descriptors: HashMap::new() })) }
    }
}

/// What WASI's file functions work with during one call.
pub(crate) struct FilesView<'a> {
    /// `wasmtime-wasi`'s view, which does the work. What works on the disk is asked by [`FilesView::disk`].
    pub(crate) given: WasiFilesystemCtxView<'a>,
    pub(crate) files: &'a mut Files,
    pub(crate) meter: &'a Arc<Meter>,
}

/// Names [`FilesView`] to the generated bindings.
pub(super) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

impl<'v> FilesView<'v> {
    /// What the handle is of the scratch folder; `None` if it is none of it.
    fn scratch(&self, fd: &Resource<Descriptor>) -> Option<Arc<Opened>> {
        self.files.scratch.as_ref()?.descriptors.get(&fd.rep()).cloned()
    }

    /// A path is billed by its length, and one that the kernel would not take is not even copied.
    fn check_path(&self, path: &str) -> FsResult<()> {
        self.meter.owe_fuel(path.len() as u64);
        if path.len() > PATH_BYTES_MAX { Err(ErrorCode::NameTooLong.into()) } else { Ok(()) }
    }

    /// The view that does the work, for one call to the disk, which is billed.
    fn disk(&mut self) -> &mut WasiFilesystemCtxView<'v> {
        self.meter.owe_fuel(FUEL_PER_QUESTION);
        &mut self.given
    }

    /// The first of two folders, if both are of the scratch folder; `None` if neither is. What is in it cannot
    /// get out under another name, and nothing can get in uncounted.
    fn scratch_both(&self, one: &Resource<Descriptor>, other: &Resource<Descriptor>) -> FsResult<Option<Arc<Opened>>> {
        match (self.scratch(one), self.scratch(other)) {
            (Some(one), Some(_)) => Ok(Some(one)),
            (None, None) => Ok(None),
            _ => Err(ErrorCode::CrossDevice.into()),
        }
    }

    /// The open file or folder behind a handle.
    fn file(&self, fd: &Resource<Descriptor>) -> wasmtime::Result<Arc<File>> {
        Ok(match self.given.table.get(fd)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(dir) => Arc::clone(&dir.dir),
        })
    }

    /// What is at a path of the scratch folder, before it changes. `None` where nothing can be found, too.
    async fn look(&mut self, fd: &Resource<Descriptor>, flags: PathFlags, path: &str) -> Option<Seen> {
        let stat = self.disk().stat_at(again(fd), flags, path.to_owned()).await.ok()?;
        let hash = self.disk().metadata_hash_at(again(fd), flags, path.to_owned()).await.ok()?;
        let folder = stat.type_ == DescriptorType::Directory;
        let bytes = if folder { 0 } else { stat.size };
        Some(Seen { id: file_id(hash), bytes, last_name: folder || stat.link_count <= 1 })
    }

    /// Counts a handle as one of the scratch folder.
    async fn remember(&mut self, quota: &Arc<Quota>, fd: &Resource<Descriptor>) -> FsResult<()> {
        let file = self.file(fd).map_err(FsError::trap)?;
        let hash = self.disk().metadata_hash(again(fd)).await?;
        if let Some(scratch) = &mut self.files.scratch {
            scratch.descriptors.insert(fd.rep(), Opened::of(Arc::clone(quota), file_id(hash), file));
        }
        Ok(())
    }

    /// A new handle of the whole scratch folder, and its path for the guest.
    fn preopen_scratch(&mut self) -> wasmtime::Result<Option<(Resource<Descriptor>, String)>> {
        let Some(scratch) = &mut self.files.scratch else { return Ok(None) };
        let fd = self.given.table.push(Descriptor::Dir(scratch.dir.clone()))?;
        scratch.descriptors.insert(fd.rep(), Arc::clone(&scratch.folder));
        Ok(Some((fd, scratch.guest.clone())))
    }
}

/// The same handle, for one more call.
fn again<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

/// WASI hashes device and inode: that is as good a name for a file as they are.
fn file_id(hash: MetadataHashValue) -> FileId {
    FileId(hash.lower, hash.upper)
}

/// A denial as the guest sees it. The meter remembers which budget it was.
fn denied(_: Exhausted) -> FsError {
    ErrorCode::Quota.into()
}

#[cfg(test)]
mod tests;
