//! However a path is written, what is charged is what is on the disk.

use proptest::prelude::*;
use wasmtime_wasi::p2::bindings::filesystem::types::DescriptorFlags;

use super::*;

/// One call, with paths that lead through links, dots and slashes to a few places.
#[derive(Clone, Debug)]
enum Call {
    Open { path: String, create: bool, truncate: bool, exclusive: bool, follow: bool, bytes: u8 },
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Symlink(String, String),
    Link(String, String),
    Rename(String, String),
}

fn path() -> impl Strategy<Value = String> {
    let part =
        prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("c"), 1 => Just("."), 1 => Just(".."), 1 => Just("")];
    let tail = prop_oneof![6 => Just(""), 2 => Just("/"), 1 => Just("/."), 1 => Just("/..")];
    (proptest::collection::vec(part, 1..4), tail).prop_map(|(parts, tail)| parts.join("/") + tail)
}

fn call() -> impl Strategy<Value = Call> {
    let open =
        (path(), any::<[bool; 4]>(), 0..40_u8).prop_map(|(path, [create, truncate, exclusive, follow], bytes)| {
            Call::Open { path, create, truncate, exclusive, follow, bytes }
        });
    prop_oneof![
        5 => open,
        4 => path().prop_map(Call::Mkdir),
        2 => path().prop_map(Call::Rmdir),
        2 => path().prop_map(Call::Unlink),
        3 => (path(), path()).prop_map(|(target, path)| Call::Symlink(target, path)),
        2 => (path(), path()).prop_map(|(path, new)| Call::Link(path, new)),
        4 => (path(), path()).prop_map(|(path, new)| Call::Rename(path, new)),
    ]
}

async fn apply(guest: &mut Guest, call: Call) {
    match call {
        Call::Open { path, create, truncate, exclusive, follow, bytes } => {
            let choose = |chosen: bool, flag: OpenFlags| if chosen { flag } else { OpenFlags::empty() };
            let how = choose(create, OpenFlags::CREATE)
                | choose(truncate, OpenFlags::TRUNCATE)
                | choose(exclusive, OpenFlags::EXCLUSIVE);
            let follow = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
            let (root, flags) = (guest.root(), DescriptorFlags::READ | DescriptorFlags::WRITE);
            if let Ok(fd) = guest.files().open_at(root, follow, path, how, flags).await {
                let _ = guest.write(&fd, usize::from(bytes), 0).await;
                guest.close(fd);
            }
        }
        Call::Mkdir(path) => drop(guest.mkdir(&path).await),
        Call::Rmdir(path) => drop(guest.rmdir(&path).await),
        Call::Unlink(path) => drop(guest.unlink(&path).await),
        Call::Symlink(target, path) => drop(guest.symlink(&target, &path).await),
        Call::Link(path, new) => drop(guest.link(&path, &new).await),
        Call::Rename(path, new) => drop(guest.rename(&path, &new).await),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_way_to_write_a_path_is_counted(calls in proptest::collection::vec(call(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut guest = Guest::new(200, 8).await;
            for call in calls {
                let shown = format!("{call:?}");
                apply(&mut guest, call).await;
                assert_eq!(guest.charged(), on_disk(guest.folder.path()), "{shown}");
            }
        });
    }
}
