//! Records on disk: one file an execution, in a folder a day.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use crate::Record;

/// Keeps a record. Readers see all of it or nothing.
pub(super) fn keep(data_dir: &Path, record: &Record) -> anyhow::Result<()> {
    let day = humantime::format_rfc3339(record.started_at).to_string();
    let folder = data_dir.join("records").join(day.get(..10).unwrap_or("undated"));
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let temporary = folder.join(format!("{}.tmp", record.execution));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = serde_json::to_vec(record).map_err(Into::into).and_then(|json| file.write_all(&json));
        let written = written.and_then(|()| fs::rename(&temporary, folder.join(format!("{}.json", record.execution))));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))
    };
    write().with_context(|| format!("the record was not kept in {}", folder.display()))
}
