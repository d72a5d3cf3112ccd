//! Any sequence of calls leaves what is charged equal to what a simple model of a folder holds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;

use super::*;

const BYTES_MAX: u64 = 1_000;
const FILES_MAX: u64 = 6;

/// One call; files and handles are chosen by number among those that there are.
#[derive(Clone, Debug)]
enum Call {
    Open { name: u8, truncate: bool },
    Close { handle: u8 },
    Write { handle: u8, bytes: u16, at: u16 },
    Stream { handle: u8, bytes: u16, at: Option<u16> },
    SetSize { handle: u8, size: u16 },
    Link { name: u8, new: u8 },
    Rename { name: u8, new: u8 },
    Unlink { name: u8 },
}

fn call() -> impl Strategy<Value = Call> {
    let name = || 0..8_u8;
    let size = || 0..700_u16;
    prop_oneof![
        4 => (name(), any::<bool>()).prop_map(|(name, truncate)| Call::Open { name, truncate }),
        2 => any::<u8>().prop_map(|handle| Call::Close { handle }),
        4 => (any::<u8>(), size(), size()).prop_map(|(handle, bytes, at)| Call::Write { handle, bytes, at }),
        3 => (any::<u8>(), size(), proptest::option::of(size()))
            .prop_map(|(handle, bytes, at)| Call::Stream { handle, bytes, at }),
        2 => (any::<u8>(), size()).prop_map(|(handle, size)| Call::SetSize { handle, size }),
        2 => (name(), name()).prop_map(|(name, new)| Call::Link { name, new }),
        2 => (name(), name()).prop_map(|(name, new)| Call::Rename { name, new }),
        3 => name().prop_map(|name| Call::Unlink { name }),
    ]
}

/// Files by number: names lead to them, handles hold them.
#[derive(Default)]
struct Model {
    sizes: BTreeMap<usize, u64>,
    names: BTreeMap<u8, usize>,
    handles: Vec<(Resource<Descriptor>, usize)>,
    next: usize,
}

impl Model {
    fn is_live(&self, file: usize) -> bool {
        self.names.values().any(|named| *named == file) || self.handles.iter().any(|(_, held)| *held == file)
    }

    fn bytes(&self) -> u64 {
        self.sizes.iter().filter(|(file, _)| self.is_live(**file)).map(|(_, size)| size).sum()
    }

    /// Names, and files that have none and are open.
    fn files(&self) -> u64 {
        let nameless = |file: &&usize| !self.names.values().any(|named| named == *file) && self.is_live(**file);
        (self.names.len() + self.sizes.keys().filter(nameless).count()) as u64
    }

    fn handle(&self, number: u8) -> Option<(usize, Resource<Descriptor>, usize)> {
        let at = usize::from(number) % self.handles.len().max(1);
        self.handles.get(at).map(|(fd, file)| (at, again(fd), *file))
    }

    /// A file may grow to this size.
    fn fits(&self, file: usize, size: u64) -> bool {
        self.bytes() + size.saturating_sub(self.sizes[&file]) <= BYTES_MAX
    }

    fn grow(&mut self, file: usize, size: u64) {
        let before = self.sizes[&file];
        self.sizes.insert(file, before.max(size));
    }
}

async fn apply(guest: &mut Guest, model: &mut Model, call: Call) {
    let path = |name: u8| format!("file {name}");
    match call {
        Call::Open { name, truncate } => {
            let known = model.names.get(&name).copied();
            let fits = known.is_some() || model.files() < FILES_MAX;
            let opened = guest.open(&path(name), if truncate { emptied() } else { WRITE }).await;
            assert_eq!(opened.is_ok(), fits);
            if let Ok(fd) = opened {
                let file = known.unwrap_or(model.next);
                if known.is_none() {
                    model.next += 1;
                    model.names.insert(name, file);
                }
                if truncate || known.is_none() {
                    model.sizes.insert(file, 0);
                }
                model.handles.push((fd, file));
            }
        }
        Call::Close { handle } => {
            if let Some((at, ..)) = model.handle(handle) {
                let (fd, _) = model.handles.remove(at);
                guest.close(fd);
            }
        }
        Call::Write { handle, bytes, at } => {
            let Some((_, fd, file)) = model.handle(handle) else { return };
            let end = if bytes == 0 { 0 } else { u64::from(bytes) + u64::from(at) };
            let fits = model.fits(file, end);
            assert_eq!(guest.write(&fd, usize::from(bytes), u64::from(at)).await.is_ok(), fits);
            if fits {
                model.grow(file, end);
            }
        }
        Call::Stream { handle, bytes, at } => {
            let Some((_, fd, file)) = model.handle(handle) else { return };
            let stream = match at {
                Some(at) => guest.files().write_via_stream(fd, u64::from(at)),
                None => guest.files().append_via_stream(fd),
            };
            let stream = stream.unwrap();
            let start = at.map_or(model.sizes[&file], u64::from);
            let end = if bytes == 0 { 0 } else { start + u64::from(bytes) };
            let fits = model.fits(file, end);
            assert_eq!(guest.stream(&stream, usize::from(bytes)).await.is_ok(), fits);
            guest.drop_stream(stream).await;
            if fits {
                model.grow(file, end);
            }
        }
        Call::SetSize { handle, size } => {
            let Some((_, fd, file)) = model.handle(handle) else { return };
            let fits = model.fits(file, u64::from(size));
            assert_eq!(guest.files().set_size(fd, u64::from(size)).await.is_ok(), fits);
            if fits {
                model.sizes.insert(file, u64::from(size));
            }
        }
        Call::Link { name, new } => {
            let possible =
                model.names.contains_key(&name) && !model.names.contains_key(&new) && model.files() < FILES_MAX;
            assert_eq!(guest.link(&path(name), &path(new)).await.is_ok(), possible);
            if possible {
                model.names.insert(new, model.names[&name]);
            }
        }
        Call::Rename { name, new } => {
            let known = model.names.get(&name).copied();
            assert_eq!(guest.rename(&path(name), &path(new)).await.is_ok(), known.is_some());
            // Of two names of one file both stay.
            if let Some(file) = known
                && model.names.get(&new) != Some(&file)
            {
                model.names.remove(&name);
                model.names.insert(new, file);
            }
        }
        Call::Unlink { name } => {
            assert_eq!(guest.unlink(&path(name)).await.is_ok(), model.names.remove(&name).is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_charged_is_what_is_there(calls in proptest::collection::vec(call(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut guest = Guest::new(BYTES_MAX, FILES_MAX).await;
            let mut model = Model::default();
            for call in calls {
                let shown = format!("{call:?}");
                apply(&mut guest, &mut model, call).await;
                assert_eq!(guest.charged(), (model.bytes(), model.files()), "{shown}");
                assert!(guest.charged().0 <= BYTES_MAX && guest.charged().1 <= FILES_MAX);
            }
            while let Some((fd, _)) = model.handles.pop() {
                guest.close(fd);
            }
            assert_eq!(guest.charged(), on_disk(guest.folder.path()));
        });
    }
}
