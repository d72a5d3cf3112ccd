//! The key of a cache folder: whoever has it can make files that are trusted.

use std::io::{self, Read as _, Write as _};

use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use rand::Rng as _;

use super::TEMPORARY;

/// How the name begins of a key that is being written.
pub(super) const TEMPORARY_BEGINS: &str = "key.0";

/// A secret of this folder.
pub(super) type Key = [u8; KEY_BYTES];

const KEY_BYTES: usize = blake3::KEY_LEN;

const NAME: &str = "key";

/// How often a key is made anew that somebody else spoils each time.
const ATTEMPTS_MAX: usize = 3;

/// The folder's key, which is made if there is none. One that is damaged or that others can read is replaced; what
/// was sealed with it is compiled anew.
pub(super) fn get(dir: &Dir) -> io::Result<Key> {
    for _ in 0..ATTEMPTS_MAX {
        match read(dir) {
            Ok(key) => return Ok(key),
            Err(Unusable::Absent) => {}
            Err(Unusable::Bad(reason)) => {
                tracing::warn!("the key of the cache folder is replaced: {reason}");
                dir.remove_file(NAME)?;
            }
            Err(Unusable::Unread(error)) => return Err(error),
        }
        make(dir)?;
    }
    Err(io::Error::other("its key is spoilt by somebody"))
}

enum Unusable {
    Absent,
    Bad(&'static str),
    Unread(io::Error),
}

fn read(dir: &Dir) -> Result<Key, Unusable> {
    match dir.symlink_metadata(NAME) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(Unusable::Bad("it is no file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Absent),
        Err(error) => return Err(Unusable::Unread(error)),
    }
    let file = dir.open(NAME).map_err(Unusable::Unread)?;
    let metadata = file.metadata().map_err(Unusable::Unread)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Unusable::Bad("it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Unusable::Bad("others can read it or write to it"));
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(Unusable::Unread)?;
    bytes.try_into().map_err(|_| Unusable::Bad("it has the wrong size"))
}

/// Makes a key, unless another process was faster.
fn make(dir: &Dir) -> io::Result<()> {
    let mut key: Key = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let temporary = format!("{NAME}.{}{TEMPORARY}", uuid::Uuid::now_v7());
    let made = dir
        .open_with(&temporary, OpenOptions::new().write(true).create_new(true).mode(0o600))
        .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
        // Unlike a rename, this never replaces what is there: the first process wins, and all get its key whole.
        .and_then(|()| match dir.hard_link(&temporary, dir, NAME) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let _ = dir.remove_file(&temporary);
    made
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use cap_std::ambient_authority;

    use super::*;

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, ambient_authority()).unwrap()
    }

    #[test]
    fn everybody_gets_the_same_key_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let dir = open(folder.path());
                std::thread::spawn(move || get(&dir).unwrap())
            })
            .collect();
        let keys: Vec<Key> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(keys.iter().all(|key| Some(key) == keys.first() && *key != [0; KEY_BYTES]));
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [NAME]);
        let mode = std::fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_no_secret_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, path) = (open(folder.path()), folder.path().join(NAME));
        let first = get(&dir).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let second = get(&dir).unwrap();
        assert_ne!(first, second);
        for bytes in [&b""[..], &second[1..], &[7; KEY_BYTES + 1]] {
            std::fs::write(&path, bytes).unwrap();
            let key = get(&dir).unwrap();
            assert_ne!(key, second);
            assert_eq!(key, get(&dir).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        get(&dir).unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }
}
