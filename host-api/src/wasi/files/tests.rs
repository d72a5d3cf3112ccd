//! The scratch folder by its host functions: no call passes the quota, and what is gone is given back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

mod guest;
mod model;
mod paths;

use bytes::Bytes;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, Host as _, HostDirectoryEntryStream, OpenFlags};
use wasmtime_wasi::p2::{OutputStream as _, StreamError};

use self::guest::{Guest, WRITE, code, created, emptied, on_disk};
use super::*;
use crate::BudgetName;

#[tokio::test]
async fn writes_and_holes_are_charged_before_they_are_written() {
    let mut guest = Guest::new(100, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    assert_eq!(guest.write(&fd, 60, 0).await.unwrap(), 60);
    assert_eq!(guest.write(&fd, 60, 30).await.unwrap(), 60, "what is overwritten costs nothing");
    assert_eq!(guest.charged(), (90, 1));
    assert_eq!(code(guest.write(&fd, 11, 90).await), ErrorCode::Quota);
    assert_eq!(guest.host.meter().refused().unwrap().budget, BudgetName::ScratchBytes);
    for far in [1 << 40, u64::MAX - 1, u64::MAX] {
        assert_eq!(code(guest.write(&fd, 1, far).await), ErrorCode::Quota);
        assert_eq!(guest.write(&fd, 0, 1 << 40).await.unwrap(), 0, "nothing is written nowhere");
    }
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((90, 1), (90, 1)));
    assert_eq!(guest.write(&fd, 1, 99).await.unwrap(), 1);
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((100, 1), (100, 1)));
    assert_eq!(guest.host.meter().reading(BudgetName::ScratchBytes), 100);
}

#[tokio::test]
async fn set_size_charges_growth_and_gives_back_the_rest() {
    let mut guest = Guest::new(100, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    guest.files().set_size(again(&fd), 100).await.unwrap();
    for far in [101, u64::MAX] {
        assert_eq!(code(guest.files().set_size(again(&fd), far).await), ErrorCode::Quota);
    }
    guest.files().set_size(again(&fd), 40).await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((40, 1), (40, 1)));
    // Opened to be read alone it cannot grow, and nothing is charged for the attempt.
    let root = guest.root();
    let flags = (PathFlags::empty(), OpenFlags::empty(), DescriptorFlags::READ);
    let reading = guest.files().open_at(root, flags.0, "a".to_owned(), flags.1, flags.2).await.unwrap();
    assert!(guest.files().set_size(again(&reading), 50).await.is_err());
    assert!(guest.write(&reading, 10, 40).await.is_err());
    assert_eq!(guest.charged(), (40, 1));
}

#[tokio::test]
async fn streams_are_charged_as_they_write() {
    let mut guest = Guest::new(100, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    let first = guest.files().write_via_stream(again(&fd), 0).unwrap();
    let second = guest.files().append_via_stream(again(&fd)).unwrap();
    guest.stream(&first, 40).await.unwrap();
    guest.stream(&second, 40).await.unwrap();
    guest.stream(&first, 40).await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((80, 1), (80, 1)), "the first overwrote the second");
    let StreamError::LastOperationFailed(error) = guest.stream(&second, 21).await.unwrap_err() else { panic!() };
    let error = guest.files().given.table.push(error).unwrap();
    assert_eq!(guest.files().filesystem_error_code(error).unwrap(), Some(ErrorCode::Quota));
    assert!(matches!(guest.stream(&second, 1).await, Err(StreamError::Closed)));
    guest.stream(&first, 20).await.unwrap();
    assert_eq!(guest.charged(), (100, 1));
}

#[tokio::test]
async fn many_streams_at_once_do_not_pass_the_quota() {
    let mut guest = Guest::new(10_000, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    let mut streams = Vec::new();
    for number in 0..400 {
        let stream = match number % 2 {
            0 => guest.files().append_via_stream(again(&fd)),
            _ => guest.files().write_via_stream(again(&fd), number * 50),
        };
        streams.push(stream.unwrap());
    }
    for stream in &streams {
        let stream = guest.host.state.files().given.table.get_mut(stream).unwrap();
        stream.write(Bytes::from(vec![1; 100])).unwrap();
    }
    // Calls of the guest's have their turn among them.
    guest.mkdir("meanwhile").await.unwrap();
    for stream in streams {
        guest.drop_stream(stream).await;
    }
    assert!(guest.charged().0 <= 10_000 && guest.charged().0 > 9_800, "{:?}", guest.charged());
    assert_eq!(guest.charged(), on_disk(guest.folder.path()));
}

#[tokio::test]
async fn a_stream_takes_no_more_at_once_than_it_said() {
    let mut guest = Guest::new(1 << 20, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    let stream = guest.files().append_via_stream(fd).unwrap();
    guest.stream(&stream, 100_000).await.unwrap();
    assert_eq!(guest.charged(), (100_000, 1), "in several writes");
    let stream = guest.host.state.files().given.table.get_mut(&stream).unwrap();
    let permitted = stream.check_write().unwrap();
    let written = stream.write(Bytes::from(vec![1; permitted + 1]));
    assert!(matches!(written, Err(StreamError::Trap(_))));
}

#[tokio::test]
async fn a_stream_outlives_its_handle() {
    let mut guest = Guest::new(100, 10).await;
    let fd = guest.open("a", created()).await.unwrap();
    let stream = guest.files().append_via_stream(again(&fd)).unwrap();
    let reading = guest.files().read_via_stream(again(&fd), 0).unwrap();
    guest.close(fd);
    guest.unlink("a").await.unwrap();
    guest.stream(&stream, 60).await.unwrap();
    assert_eq!(guest.charged(), (60, 1));
    guest.drop_stream(stream).await;
    assert_eq!(guest.charged(), (60, 1), "it can be read still");
    drop(guest.files().given.table.delete(reading).unwrap());
    assert_eq!(guest.charged(), (0, 0));
}

#[tokio::test]
async fn every_name_counts() {
    let mut guest = Guest::new(100, 5).await;
    guest.file("file", 10).await;
    guest.mkdir("folder").await.unwrap();
    guest.symlink("target", "symlink").await.unwrap();
    guest.link("file", "folder/link").await.unwrap();
    guest.file("folder/file", 10).await;
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((26, 5), (26, 5)));
    assert_eq!(code(guest.open("more", created()).await), ErrorCode::Quota);
    assert_eq!(code(guest.mkdir("more").await), ErrorCode::Quota);
    assert_eq!(code(guest.symlink("x", "more").await), ErrorCode::Quota);
    assert_eq!(code(guest.link("file", "more").await), ErrorCode::Quota);
    assert_eq!(guest.host.meter().refused().unwrap().budget, BudgetName::ScratchFiles);
    // What is there can be opened still, however it is asked for.
    let fd = guest.open("file", WRITE).await.unwrap();
    guest.close(fd);
    assert_eq!(code(guest.open("file", created()).await), ErrorCode::Exist);

    guest.unlink("file").await.unwrap();
    assert_eq!(guest.charged(), (26, 4), "the file has another name");
    guest.unlink("folder/link").await.unwrap();
    assert_eq!(guest.charged(), (16, 3));
    assert_eq!(code(guest.rmdir("folder").await), ErrorCode::NotEmpty);
    guest.unlink("folder/file").await.unwrap();
    guest.rmdir("folder").await.unwrap();
    guest.unlink("symlink").await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((0, 0), (0, 0)));
    // A failed call keeps no charge.
    guest.file("file", 1).await;
    for _ in 0..10 {
        assert!(guest.mkdir("file").await.is_err() && guest.symlink("x", "file").await.is_err());
        assert!(guest.link("file", "file").await.is_err() && guest.open("file", created()).await.is_err());
        assert!(guest.mkdir("none/below").await.is_err() && guest.open("none/below", created()).await.is_err());
    }
    assert_eq!(guest.charged(), (1, 1));
}

#[tokio::test]
async fn a_long_text_of_a_link_is_charged() {
    let mut guest = Guest::new(1_000, 100).await;
    guest.symlink(&"x".repeat(900), "a").await.unwrap();
    assert_eq!(code(guest.symlink(&"x".repeat(200), "b").await), ErrorCode::Quota);
    guest.link("a", "c").await.unwrap();
    guest.unlink("a").await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((900, 1), (900, 1)));
}

#[tokio::test]
async fn truncating_gives_back_and_opening_anew_does_not_take_twice() {
    let mut guest = Guest::new(100, 2).await;
    for _ in 0..20 {
        guest.file("a", 80).await;
        assert_eq!(guest.charged(), (80, 1));
    }
    // Through a link, too, and while it is open elsewhere.
    let open = guest.open("a", WRITE).await.unwrap();
    guest.symlink("a", "b").await.unwrap();
    let fd = guest.open("b", emptied()).await.unwrap();
    assert_eq!(guest.charged(), (1, 2));
    guest.write(&open, 99, 0).await.unwrap();
    guest.close(open);
    guest.close(fd);
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((100, 2), (100, 2)));
}

#[tokio::test]
async fn a_dangling_link_that_is_written_through_makes_a_file() {
    let mut guest = Guest::new(100, 2).await;
    guest.symlink("made", "link").await.unwrap();
    guest.file("link", 10).await;
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((14, 2), (14, 2)));
    guest.symlink("again", "no").await.unwrap_err();
}

#[tokio::test]
async fn renaming_over_a_file_gives_it_back() {
    let mut guest = Guest::new(100, 10).await;
    guest.file("a", 30).await;
    guest.file("b", 40).await;
    guest.rename("a", "b").await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((30, 1), (30, 1)));
    guest.rename("b", "b").await.unwrap();
    guest.link("b", "c").await.unwrap();
    guest.rename("b", "c").await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((30, 2), (30, 2)), "two names of one file stay");
    guest.mkdir("folder").await.unwrap();
    guest.mkdir("other").await.unwrap();
    guest.rename("folder", "other").await.unwrap();
    assert!(guest.rename("b", "other").await.is_err() && guest.rename("other", "b").await.is_err());
    assert!(guest.rename("other", "other/below").await.is_err());
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((30, 3), (30, 3)));
    // What was renamed over and is open stays charged.
    let open = guest.open("b", WRITE).await.unwrap();
    guest.file("d", 5).await;
    guest.rename("d", "b").await.unwrap();
    guest.unlink("c").await.unwrap();
    assert_eq!(guest.charged(), (35, 3));
    guest.close(open);
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((5, 2), (5, 2)));
}

#[tokio::test]
async fn what_is_removed_and_open_stays_charged() {
    let mut guest = Guest::new(100, 3).await;
    let one = guest.open("a", created()).await.unwrap();
    let two = guest.open("a", WRITE).await.unwrap();
    guest.write(&one, 50, 0).await.unwrap();
    guest.unlink("a").await.unwrap();
    guest.write(&two, 10, 50).await.unwrap();
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((60, 1), (0, 0)));
    assert_eq!(code(guest.write(&one, 41, 60).await), ErrorCode::Quota);
    guest.close(one);
    assert_eq!(guest.charged(), (60, 1));
    // Folders are kept by the kernel as well.
    guest.mkdir("f").await.unwrap();
    let folder = guest.open_folder("f").await;
    guest.rmdir("f").await.unwrap();
    guest.mkdir("f").await.unwrap();
    assert_eq!(code(guest.mkdir("g").await), ErrorCode::Quota);
    guest.close(folder);
    guest.close(two);
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((0, 1), (0, 1)));
}

#[tokio::test]
async fn few_files_are_open_at_one_time() {
    let mut guest = Guest::new(100, 10).await;
    guest.file("a", 1).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(guest.open("a", WRITE).await.unwrap());
        // A stream keeps its file open without its handle; a second one on the same handle opens nothing more.
        let fd = guest.open("a", WRITE).await.unwrap();
        guest.files().append_via_stream(again(&fd)).unwrap();
        guest.files().append_via_stream(again(&fd)).unwrap();
        guest.close(fd);
    }
    assert_eq!(code(guest.open("b", created()).await), ErrorCode::InsufficientMemory);
    guest.close(open.pop().unwrap());
    guest.open("b", created()).await.unwrap();
    assert_eq!(guest.charged(), (1, 2));
    // The folder itself is open once, however often it is asked for.
    for _ in 0..300 {
        guest.files().get_directories().unwrap();
    }
}

#[tokio::test]
async fn nothing_goes_between_the_scratch_folder_and_another() {
    let given = tempfile::tempdir().unwrap();
    std::fs::write(given.path().join("big"), [1; 500]).unwrap();
    let mut guest = Guest::with(100, 10, |fixture| fixture.folder(given.path(), "/data", true)).await;
    guest.file("small", 10).await;
    let data = guest.files().get_directories().unwrap().swap_remove(0).0;
    for (from, to, path) in [(again(&data), guest.root(), "big"), (guest.root(), again(&data), "small")] {
        let renamed = guest.files().rename_at(again(&from), path.to_owned(), again(&to), "x".to_owned()).await;
        assert_eq!(code(renamed), ErrorCode::CrossDevice);
        let flags = PathFlags::empty();
        let linked = guest.files().link_at(again(&from), flags, path.to_owned(), again(&to), "x".to_owned()).await;
        assert_eq!(code(linked), ErrorCode::CrossDevice);
    }
    assert_eq!((guest.charged(), on_disk(guest.folder.path())), ((10, 1), (10, 1)));
    assert_eq!(on_disk(given.path()), (500, 1));
    // The other folder is not charged.
    guest.files().rename_at(again(&data), "big".to_owned(), again(&data), "moved".to_owned()).await.unwrap();
    guest.files().create_directory_at(again(&data), "folder".to_owned()).await.unwrap();
    assert_eq!(guest.charged(), (10, 1));
}

#[tokio::test]
async fn no_path_leads_out() {
    let mut guest = Guest::new(10_000, 100).await;
    let outside = guest.folder.path().parent().unwrap().join("holm-scratch-outside");
    let name = outside.file_name().unwrap().to_str().unwrap().to_owned();
    guest.mkdir("in").await.unwrap();
    assert!(guest.symlink("/etc/passwd", "absolute").await.is_err(), "absolute links are refused as they are made");
    guest.symlink("..", "up").await.unwrap();
    guest.symlink("../..", "in/up").await.unwrap();
    guest.symlink("loop", "loop").await.unwrap();
    guest.symlink("in/up", "chain").await.unwrap();
    let ways = ["..", "/", "/tmp", "up", "in/up", "chain", "in/../..", "./..", "in/../in/../.."];
    for way in ways {
        let path = format!("{way}/{name}");
        assert!(guest.open(&path, emptied()).await.is_err(), "{path}");
        assert!(guest.mkdir(&path).await.is_err() && guest.symlink("x", &path).await.is_err(), "{path}");
        assert!(guest.rename("in", &path).await.is_err() && guest.link("up", &path).await.is_err(), "{path}");
        assert!(guest.unlink(&path).await.is_err() && guest.rmdir(&path).await.is_err(), "{path}");
        assert!(guest.open(&format!("{way}/etc/passwd"), OpenFlags::empty()).await.is_err());
    }
    let long = "x".repeat(4096);
    for odd in ["", ".", "..", "/", "loop", "loop/x", "a\0b", "\0", "in/.", "in/..", &long, &format!("in/{long}")] {
        assert!(guest.open(odd, created()).await.is_err(), "{odd:?}");
        assert!(guest.mkdir(odd).await.is_err(), "{odd:?}");
        assert!(guest.rmdir(odd).await.is_err(), "{odd:?}");
    }
    assert!(!outside.exists());
    let names = ["con", "nul", "aux.txt", "a b", "-rf", "ü", "a\nb", "..."];
    for name in names {
        guest.file(name, 1).await;
    }
    assert!(guest.open("con/", WRITE).await.is_err() && guest.unlink("con/").await.is_err(), "it is no folder");
    let (bytes, files) = guest.charged();
    assert_eq!((bytes, files), on_disk(guest.folder.path()));
    assert_eq!(files, 5 + names.len() as u64);
}

#[tokio::test]
async fn listings_are_few_and_bounded() {
    let mut guest = Guest::new(100, 100).await;
    for number in 0..50 {
        guest.file(&number.to_string(), 0).await;
    }
    let before = guest.host.meter().fuel_owed();
    let mut listings = Vec::new();
    loop {
        let root = guest.root();
        match guest.files().read_directory(root).await {
            Ok(listing) => listings.push(listing),
            Err(error) => break assert_eq!(error.downcast().unwrap(), ErrorCode::InsufficientMemory),
        }
    }
    assert_eq!(listings.len(), 64);
    assert!(guest.host.meter().fuel_owed() - before > 64 * 50 * 500);
    let mut names = 0;
    while guest.files().read_directory_entry(again(&listings[0])).await.unwrap().is_some() {
        names += 1;
    }
    assert_eq!(names, 50);
    let listing = listings.pop().unwrap();
    HostDirectoryEntryStream::drop(&mut guest.files(), listing).unwrap();
    let root = guest.root();
    guest.files().read_directory(root).await.unwrap();
}

#[tokio::test]
async fn the_disk_may_be_full_below_the_quota() {
    // The kernel's own full disk: every write to it fails so.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut guest = Guest::new(100, 10).await;
    let scratch = guest.host.state.files();
    let quota = Arc::clone(scratch.files.scratch.as_ref().unwrap().folder.quota());
    let opened = Opened::of(quota, FileId(1, 1), Arc::new(full));
    let mut writer = streams::Writer::new(opened, guest.host.meter(), streams::Place::End);
    let StreamError::LastOperationFailed(error) =
        writer.blocking_write_and_flush(Bytes::from_static(b"text")).await.unwrap_err()
    else {
        panic!()
    };
    let error = guest.files().given.table.push(error).unwrap();
    assert_eq!(guest.files().filesystem_error_code(error).unwrap(), Some(ErrorCode::InsufficientSpace));
    assert_eq!((guest.charged(), guest.host.meter().refused()), ((0, 0), None));
}
