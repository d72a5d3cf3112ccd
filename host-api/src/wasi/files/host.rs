//! WASI's file functions: what may change the scratch folder is counted, all else goes straight on.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::streams::{Place, Reader, Writer};
use super::{FilesView, denied};
use crate::Exhausted;

/// Listings of folders that a guest may hold at one time. `wasmtime-wasi` makes each at once, as a whole.
const LISTINGS_MAX: usize = 64;

/// Fuel for listing a folder, by its own size, which the kernel knows before: it comes to about a thousand
/// units for an entry.
const FUEL_PER_FOLDER_BYTE: u64 = 50;

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut folders = preopens::Host::get_directories(&mut self.given)?;
        folders.extend(self.preopen_scratch()?);
        Ok(folders)
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.given.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        if self.given.table.get(&error)?.is::<Exhausted>() {
            return Ok(Some(ErrorCode::Quota));
        }
        self.given.filesystem_error_code(error)
    }
}

/// What changes the scratch folder.
impl FilesView<'_> {
    fn new_stream(&mut self, fd: &Resource<Descriptor>, place: Place) -> FsResult<Option<Resource<DynOutputStream>>> {
        let Some(opened) = self.scratch(fd) else { return Ok(None) };
        if let Descriptor::Dir(_) = self.given.table.get(fd)? {
            return Err(ErrorCode::BadDescriptor.into());
        }
        let writer: DynOutputStream = Box::new(Writer::new(opened, Arc::clone(self.meter), place));
        Ok(Some(self.given.table.push(writer)?))
    }
}

impl HostDescriptor for FilesView<'_> {
    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let length = bytes.len() as u64;
        self.meter.owe_fuel(length);
        let Some(opened) = self.scratch(&fd) else { return self.disk().write(fd, bytes, offset).await };
        let _turn = opened.quota().turn().await;
        // Writing nothing makes no file longer, wherever it is written.
        let end = if length == 0 { 0 } else { offset.saturating_add(length) };
        let _resize = opened.resize(end).map_err(denied)?;
        self.disk().write(fd, bytes, offset).await
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        match self.new_stream(&fd, Place::At(offset))? {
            Some(stream) => Ok(stream),
            None => self.given.write_via_stream(fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        match self.new_stream(&fd, Place::End)? {
            Some(stream) => Ok(stream),
            None => self.given.append_via_stream(fd),
        }
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let Some(opened) = self.scratch(&fd) else { return self.disk().set_size(fd, size).await };
        let _turn = opened.quota().turn().await;
        let _resize = opened.resize(size).map_err(denied)?;
        self.disk().set_size(fd, size).await
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.check_path(&path)?;
        let Some(folder) = self.scratch(&fd) else { return self.disk().open_at(fd, follow, path, how, flags).await };
        let quota = folder.quota();
        let _turn = quota.turn().await;
        if !quota.may_open() {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let found = self.look(&fd, follow, &path).await;
        let made = match found {
            None if how.contains(OpenFlags::CREATE) => Some(quota.take_name(0).map_err(denied)?),
            _ => None,
        };
        let opened = self.disk().open_at(fd, follow, path, how, flags).await?;
        if let Some(made) = made {
            made.keep();
        }
        if let Some(found) = found
            && how.contains(OpenFlags::TRUNCATE)
        {
            quota.shrunk(found.bytes, self.file(&opened).map_err(FsError::trap)?.metadata()?.len());
        }
        self.remember(quota, &opened).await?;
        Ok(opened)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.check_path(&path)?;
        let Some(folder) = self.scratch(&fd) else { return self.disk().create_directory_at(fd, path).await };
        let _turn = folder.quota().turn().await;
        let made = folder.quota().take_name(0).map_err(denied)?;
        self.disk().create_directory_at(fd, path).await?;
        made.keep();
        Ok(())
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        self.check_path(&target)?;
        self.check_path(&path)?;
        let Some(folder) = self.scratch(&fd) else { return self.disk().symlink_at(fd, target, path).await };
        let _turn = folder.quota().turn().await;
        let made = folder.quota().take_name(target.len() as u64).map_err(denied)?;
        self.disk().symlink_at(fd, target, path).await?;
        made.keep();
        Ok(())
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.check_path(&path)?;
        self.check_path(&new_path)?;
        let Some(folder) = self.scratch_both(&fd, &new_fd)? else {
            return self.disk().link_at(fd, follow, path, new_fd, new_path).await;
        };
        let _turn = folder.quota().turn().await;
        let made = folder.quota().take_name(0).map_err(denied)?;
        self.disk().link_at(fd, follow, path, new_fd, new_path).await?;
        made.keep();
        Ok(())
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.check_path(&path)?;
        self.check_path(&new_path)?;
        let Some(folder) = self.scratch_both(&fd, &new_fd)? else {
            return self.disk().rename_at(fd, path, new_fd, new_path).await;
        };
        let _turn = folder.quota().turn().await;
        let moved = self.look(&fd, PathFlags::empty(), &path).await;
        let replaced = self.look(&new_fd, PathFlags::empty(), &new_path).await;
        self.disk().rename_at(fd, path, new_fd, new_path).await?;
        // Where both are names of one file, both stay.
        if let (Some(moved), Some(replaced)) = (moved, replaced)
            && moved.id != replaced.id
        {
            folder.quota().removed(&replaced);
        }
        Ok(())
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.check_path(&path)?;
        let Some(folder) = self.scratch(&fd) else { return self.disk().unlink_file_at(fd, path).await };
        let _turn = folder.quota().turn().await;
        let found = self.look(&fd, PathFlags::empty(), &path).await;
        self.disk().unlink_file_at(fd, path).await?;
        found.iter().for_each(|found| folder.quota().removed(found));
        Ok(())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.check_path(&path)?;
        let Some(folder) = self.scratch(&fd) else { return self.disk().remove_directory_at(fd, path).await };
        let _turn = folder.quota().turn().await;
        let found = self.look(&fd, PathFlags::empty(), &path).await;
        self.disk().remove_directory_at(fd, path).await?;
        found.iter().for_each(|found| folder.quota().removed(found));
        Ok(())
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let opened = self.scratch(&fd);
        let stream = self.given.read_via_stream(fd, offset)?;
        let Some(opened) = opened else { return Ok(stream) };
        let inner = self.given.table.delete(stream)?;
        let reader: DynInputStream = Box::new(Reader { inner, meter: Arc::clone(self.meter), _opened: opened });
        Ok(self.given.table.push(reader)?)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        if let Some(scratch) = &mut self.files.scratch {
            scratch.descriptors.remove(&fd.rep());
        }
        HostDescriptor::drop(&mut self.given, fd)
    }

    /// The scratch folder goes with the execution: there is nothing to save, and disks to spare.
    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        if self.scratch(&fd).is_some() { Ok(()) } else { self.disk().sync(fd).await }
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        if self.scratch(&fd).is_some() { Ok(()) } else { self.disk().sync_data(fd).await }
    }

    async fn read(
        &mut self,
        fd: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let read = self.disk().read(fd, length, offset).await?;
        self.meter.owe_fuel(read.0.len() as u64);
        Ok(read)
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        if self.files.listings >= LISTINGS_MAX {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        if let Descriptor::Dir(folder) = self.given.table.get(&fd)? {
            self.meter.owe_fuel(folder.dir.metadata()?.len().saturating_mul(FUEL_PER_FOLDER_BYTE));
        }
        let listing = self.disk().read_directory(fd).await?;
        self.files.listings += 1;
        Ok(listing)
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.disk().advise(fd, offset, length, advice).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.disk().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.disk().get_type(fd).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.disk().set_times(fd, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.check_path(&path)?;
        self.disk().set_times_at(fd, follow, path, accessed, modified).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.disk().stat(fd).await
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, follow: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.check_path(&path)?;
        self.disk().stat_at(fd, follow, path).await
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.check_path(&path)?;
        self.disk().readlink_at(fd, path).await
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.disk().is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.disk().metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.check_path(&path)?;
        self.disk().metadata_hash_at(fd, follow, path).await
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.given.read_directory_entry(listing).await
    }

    fn drop(&mut self, listing: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files.listings = self.files.listings.saturating_sub(1);
        HostDirectoryEntryStream::drop(&mut self.given, listing)
    }
}
