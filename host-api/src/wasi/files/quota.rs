//! The account of a scratch folder: what is in it, and what is open and no longer in it.
//!
//! Charged are the size of every file and of every link's text, holes included, once however many names a file
//! has, and every name in the folder. A file whose last name is gone stays charged until the last handle or
//! stream that has it open is gone too: until then the kernel keeps it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{BudgetName, Exhausted, Meter};

/// Files and folders of the scratch folder that an execution may have open at one time. Each is an open file of
/// this process, which has not many of them and serves others too.
const OPEN_MAX: usize = 128;

/// Counts what one execution has in its scratch folder.
pub(super) struct Quota {
    meter: Arc<Meter>,
    turn: tokio::sync::Mutex<()>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<FileId, Standing>,
    holders: usize,
}

/// Which file it is, by whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(pub(super) u64, pub(super) u64);

/// A file or folder that is open.
#[derive(Default)]
struct Standing {
    holders: usize,
    nameless: bool,
}

/// What was found at a path.
pub(super) struct Seen {
    pub(super) id: FileId,
    /// Charged for it; a folder costs none.
    pub(super) bytes: u64,
    /// Without this name it has none.
    pub(super) last_name: bool,
}

impl Quota {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Quota { meter, turn: tokio::sync::Mutex::new(()), open: Mutex::default() }
    }

    /// Waits until nothing else changes the folder; nothing else does until the guard is dropped.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Charges a new name, and the text of a link. It is given back unless it is kept.
    pub(super) fn take_name(&self, bytes: u64) -> Result<NewName<'_>, Exhausted> {
        self.meter.charge_all(&[(BudgetName::ScratchFiles, 1), (BudgetName::ScratchBytes, bytes)])?;
        Ok(NewName { quota: self, bytes, kept: false })
    }

    /// A name is gone from the folder, and perhaps what it named.
    pub(super) fn removed(&self, seen: &Seen) {
        if !seen.last_name {
            return self.release(1, 0);
        }
        match self.open().files.get_mut(&seen.id) {
            Some(standing) => standing.nameless = true,
            None => self.release(1, seen.bytes),
        }
    }

    /// An existing file is smaller now.
    pub(super) fn shrunk(&self, before: u64, after: u64) {
        self.release(0, before.saturating_sub(after));
    }

    fn release(&self, names: u64, bytes: u64) {
        self.meter.release_all(&[(BudgetName::ScratchFiles, names), (BudgetName::ScratchBytes, bytes)]);
    }

    /// May one more file be opened?
    pub(super) fn may_open(&self) -> bool {
        self.open().holders < OPEN_MAX
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is about to be made.
pub(super) struct NewName<'a> {
    quota: &'a Quota,
    bytes: u64,
    kept: bool,
}

impl NewName<'_> {
    /// It was made.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewName<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.quota.release(1, self.bytes);
        }
    }
}

/// A file or folder that a handle or stream of the guest has open. What is open is charged.
pub(super) struct Opened {
    quota: Arc<Quota>,
    /// `None` for the scratch folder itself.
    id: Option<FileId>,
    file: Arc<File>,
}

impl Opened {
    pub(super) fn of(quota: Arc<Quota>, id: FileId, file: Arc<File>) -> Arc<Self> {
        {
            let mut open = quota.open();
            open.holders += 1;
            open.files.entry(id).or_default().holders += 1;
        }
        Arc::new(Opened { quota, id: Some(id), file })
    }

    pub(super) fn root(quota: Arc<Quota>, file: Arc<File>) -> Arc<Self> {
        Arc::new(Opened { quota, id: None, file })
    }

    pub(super) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its size in bytes, as it is charged.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |found| if found.is_dir() { 0 } else { found.len() })
    }

    /// Charges what makes the file `end` bytes long. When the guard is dropped, the size that it has then is
    /// what stays charged. Only whoever has the turn may call this.
    pub(super) fn resize(&self, end: u64) -> Result<Resize<'_>, Exhausted> {
        let before = self.bytes();
        let more = end.saturating_sub(before);
        self.quota.meter.charge(BudgetName::ScratchBytes, more)?;
        Ok(Resize { opened: self, charged: before.saturating_add(more) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut open = self.quota.open();
        open.holders -= 1;
        let Some(standing) = open.files.get_mut(&id) else { return };
        standing.holders -= 1;
        if standing.holders == 0 {
            let nameless = standing.nameless;
            open.files.remove(&id);
            if nameless {
                self.quota.release(1, self.bytes());
            }
        }
    }
}

/// A change of a file's size, under way.
pub(super) struct Resize<'a> {
    opened: &'a Opened,
    charged: u64,
}

impl Drop for Resize<'_> {
    fn drop(&mut self) {
        self.opened.quota.shrunk(self.charged, self.opened.bytes());
    }
}
