//! The file of secrets: keys by name, which nobody but its owner may read.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Deserializer};

use super::{ConfigError, read_to_end};
use crate::backends::llm::{Credentials, Secret};

/// Anybody but the owner.
const OTHERS: u32 = 0o077;

const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Secrets by name.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, Credentials>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a secret is a text, or a table of access_key_id, secret_access_key and session_token")]
enum Entry {
    Key(Key),
    Aws(Aws),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Aws {
    access_key_id: String,
    secret_access_key: Key,
    session_token: Option<Key>,
}

struct Key(Secret);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|key| Key(Secret::new(key)))
    }
}

impl Secrets {
    /// Reads a file of secrets.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it is not what a file of secrets looks like.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::unreadable(path, &error);
        // A pipe that nobody writes to would be waited for.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).map_err(unreadable)?;
        // Of the open file: what is looked at is what is read.
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ConfigError::new(path, "it is no file"));
        }
        if metadata.mode() & OTHERS != 0 {
            let what = "others than its owner may use this file of secrets; take that from them with `chmod 600`";
            return Err(ConfigError::new(path, what));
        }
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != me && metadata.uid() != 0 {
            return Err(ConfigError::new(path, "this file of secrets belongs to another user of this machine"));
        }
        // Of the right size from the start: a buffer that grows leaves what it held behind.
        let size = usize::try_from(metadata.len()).unwrap_or(0).min(1 << 22).saturating_add(1);
        let mut text = Zeroizing::new(String::with_capacity(size));
        read_to_end(path, &file, &mut text)?;
        let entries: BTreeMap<String, Entry> =
            toml::from_str(&text).map_err(|error| ConfigError::toml(path, &text, &error))?;
        let secrets = entries.into_iter().map(|(name, entry)| {
            let credentials = match entry {
                Entry::Key(Key(key)) => Credentials::Key(key),
                Entry::Aws(Aws { access_key_id, secret_access_key, session_token }) => Credentials::Aws {
                    access_key_id,
                    secret_access_key: secret_access_key.0,
                    session_token: session_token.map(|Key(token)| token),
                },
            };
            (name, credentials)
        });
        Ok(Secrets(secrets.collect()))
    }

    /// Adds a key, in place of one that has this name.
    pub fn set(&mut self, name: &str, key: Secret) {
        self.0.insert(name.to_owned(), Credentials::Key(key));
    }

    /// The secret of this name.
    pub fn get(&self, name: &str) -> Option<Credentials> {
        self.0.get(name).cloned()
    }
}
