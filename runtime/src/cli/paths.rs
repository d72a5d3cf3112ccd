//! Where things are kept, where nobody says it: the XDG folders. Read once, at start.

use std::path::PathBuf;

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

fn base() -> anyhow::Result<etcetera::base_strategy::Xdg> {
    etcetera::base_strategy::Xdg::new().context("there is no home folder; name folders with --data and --cache-dir")
}

pub(super) fn data_dir(given: &Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(dir) => Ok(dir.clone()),
        None => Ok(base()?.data_dir().join("holm")),
    }
}

pub(super) fn cache_dir(given: &Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(dir) => Ok(dir.clone()),
        None => Ok(base()?.cache_dir().join("holm")),
    }
}
