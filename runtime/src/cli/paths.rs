//! Where things are, where nobody says it: the XDG folders. Read once, at start.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use etcetera::BaseStrategy as _;

fn base() -> anyhow::Result<etcetera::base_strategy::Xdg> {
    let advice = "name folders with --data and --cache-dir";
    // Without it the user database would be asked, and a service would keep things where nobody looks for them.
    if std::env::var_os("HOME").is_none_or(|home| home.is_empty()) {
        bail!("HOME is not set, so there is no place for records and compiled code; {advice}");
    }
    etcetera::base_strategy::Xdg::new().with_context(|| format!("there is no home folder; {advice}"))
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

/// The configuration file that is there without being named.
pub(super) fn config_file() -> Option<PathBuf> {
    let file = base().ok()?.config_dir().join("holm").join("runtime.toml");
    file.exists().then_some(file)
}
