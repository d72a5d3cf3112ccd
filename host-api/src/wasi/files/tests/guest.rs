//! A guest with a scratch folder, whose calls tests make.

use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynOutputStream, FsResult, StreamError};

use crate::BudgetName;
use crate::fixture::{Fixture, Host};
use crate::wasi::files::{FilesView, again};

pub(super) const WRITE: OpenFlags = OpenFlags::CREATE;

/// A file that must be new.
pub(super) fn created() -> OpenFlags {
    OpenFlags::CREATE | OpenFlags::EXCLUSIVE
}

/// A file that is empty then.
pub(super) fn emptied() -> OpenFlags {
    OpenFlags::CREATE | OpenFlags::TRUNCATE
}

/// An execution with a scratch folder, which it has open.
pub(super) struct Guest {
    pub(super) host: Host,
    pub(super) folder: TempDir,
    root: u32,
}

impl Guest {
    pub(super) async fn new(bytes: u64, files: u64) -> Self {
        Guest::with(bytes, files, |fixture| fixture).await
    }

    pub(super) async fn with(bytes: u64, files: u64, more: impl FnOnce(Fixture) -> Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::new()
            .limit(BudgetName::ScratchBytes, bytes)
            .limit(BudgetName::ScratchFiles, files)
            .scratch(folder.path());
        let mut host = more(fixture).open().await;
        let (root, path) = host.state.files().get_directories().unwrap().pop().unwrap();
        assert_eq!(path, "/scratch");
        Guest { host, folder, root: root.rep() }
    }

    pub(super) fn files(&mut self) -> FilesView<'_> {
        self.host.state.files()
    }

    pub(super) fn root(&self) -> Resource<Descriptor> {
        Resource::new_borrow(self.root)
    }

    /// Bytes and files that are charged.
    pub(super) fn charged(&self) -> (u64, u64) {
        (self.host.used(BudgetName::ScratchBytes), self.host.used(BudgetName::ScratchFiles))
    }

    pub(super) async fn open(&mut self, path: &str, how: OpenFlags) -> FsResult<Resource<Descriptor>> {
        let (root, flags) = (self.root(), DescriptorFlags::READ | DescriptorFlags::WRITE);
        self.files().open_at(root, PathFlags::SYMLINK_FOLLOW, path.to_owned(), how, flags).await
    }

    pub(super) async fn open_folder(&mut self, path: &str) -> Resource<Descriptor> {
        let (root, flags) = (self.root(), DescriptorFlags::READ);
        let opened = self.files().open_at(root, PathFlags::empty(), path.to_owned(), OpenFlags::DIRECTORY, flags).await;
        opened.unwrap()
    }

    pub(super) async fn write(&mut self, fd: &Resource<Descriptor>, bytes: usize, at: u64) -> FsResult<u64> {
        self.files().write(again(fd), vec![1; bytes], at).await
    }

    /// A file of this size, closed.
    pub(super) async fn file(&mut self, path: &str, bytes: usize) {
        let fd = self.open(path, emptied()).await.unwrap();
        assert_eq!(self.write(&fd, bytes, 0).await.unwrap(), bytes as u64);
        self.close(fd);
    }

    pub(super) fn close(&mut self, fd: Resource<Descriptor>) {
        HostDescriptor::drop(&mut self.files(), fd).unwrap();
    }

    pub(super) async fn mkdir(&mut self, path: &str) -> FsResult<()> {
        let root = self.root();
        self.files().create_directory_at(root, path.to_owned()).await
    }

    pub(super) async fn symlink(&mut self, target: &str, path: &str) -> FsResult<()> {
        let root = self.root();
        self.files().symlink_at(root, target.to_owned(), path.to_owned()).await
    }

    pub(super) async fn link(&mut self, path: &str, new: &str) -> FsResult<()> {
        let (root, new_root) = (self.root(), self.root());
        self.files().link_at(root, PathFlags::empty(), path.to_owned(), new_root, new.to_owned()).await
    }

    pub(super) async fn rename(&mut self, path: &str, new: &str) -> FsResult<()> {
        let (root, new_root) = (self.root(), self.root());
        self.files().rename_at(root, path.to_owned(), new_root, new.to_owned()).await
    }

    pub(super) async fn unlink(&mut self, path: &str) -> FsResult<()> {
        let root = self.root();
        self.files().unlink_file_at(root, path.to_owned()).await
    }

    pub(super) async fn rmdir(&mut self, path: &str) -> FsResult<()> {
        let root = self.root();
        self.files().remove_directory_at(root, path.to_owned()).await
    }

    /// Writes to a stream and waits until it is written.
    pub(super) async fn stream(&mut self, stream: &Resource<DynOutputStream>, bytes: usize) -> Result<(), StreamError> {
        let stream = self.host.state.files().given.table.get_mut(stream).unwrap();
        stream.blocking_write_and_flush(Bytes::from(vec![1; bytes])).await
    }

    pub(super) async fn drop_stream(&mut self, stream: Resource<DynOutputStream>) {
        self.files().given.table.delete(stream).unwrap().cancel().await;
    }
}

#[track_caller]
pub(super) fn code<T>(result: FsResult<T>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it was allowed"),
        Err(error) => error.downcast().unwrap(),
    }
}

/// The sizes of the files on the disk, each once, and the names.
pub(super) fn on_disk(folder: &Path) -> (u64, u64) {
    fn walk(folder: &Path, seen: &mut std::collections::HashMap<u64, u64>) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let mut names = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            names += 1;
            if found.is_dir() {
                names += walk(&entry.path(), seen);
            } else {
                seen.insert(found.ino(), found.len());
            }
        }
        names
    }
    let mut seen = std::collections::HashMap::new();
    let names = walk(folder, &mut seen);
    (seen.values().sum(), names)
}
