//! Scratch folders go, however deep and whoever left them.
#![allow(clippy::unwrap_used, reason = "a failed test should stop there")]

use super::*;

fn names(path: &Path) -> Vec<String> {
    let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(path).unwrap().map(name).collect()
}

#[tokio::test]
async fn a_folder_is_its_owners_alone_and_goes() {
    let place = tempfile::tempdir().unwrap();
    let root = ScratchRoot::open(place.path()).unwrap();
    let own = place.path().join(&root.name);
    let (one, other) = (ScratchFolder::make(&root).await.unwrap(), ScratchFolder::make(&root).await.unwrap());
    assert_eq!(names(&own).len(), 2);
    for folder in [&one, &other] {
        assert_eq!(folder.open().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
    }
    one.remove().await.unwrap();
    assert_eq!(names(&own), [other.name.as_str()]);
    drop(other);
    assert!(names(&own).is_empty());
    drop(root);
    assert!(names(place.path()).is_empty());
}

#[tokio::test]
async fn a_tree_of_any_depth_and_width_goes() {
    let place = tempfile::tempdir().unwrap();
    let root = ScratchRoot::open(place.path()).unwrap();
    let folder = ScratchFolder::make(&root).await.unwrap();
    let mut at = folder.folder.try_clone().unwrap();
    for depth in 0..2_000 {
        if depth % 100 == 0 {
            for file in 0..10 {
                at.write(format!("file {file}"), b"text").unwrap();
                at.create_dir(format!("folder {file}")).unwrap();
                at.symlink("/etc/passwd", format!("link {file}")).unwrap_err();
                at.symlink_contents("/etc/passwd", format!("link {file}")).unwrap();
            }
        }
        at.create_dir("down").unwrap();
        at = at.open_dir("down").unwrap();
    }
    drop(at);
    folder.remove().await.unwrap();
    assert!(names(&place.path().join(&root.name)).is_empty());
}

#[tokio::test]
async fn links_out_of_a_folder_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), "kept").unwrap();
    let place = tempfile::tempdir().unwrap();
    let root = ScratchRoot::open(place.path()).unwrap();
    let folder = ScratchFolder::make(&root).await.unwrap();
    folder.folder.symlink_contents(outside.path(), "out").unwrap();
    folder.folder.create_dir("in").unwrap();
    folder.folder.symlink_contents(outside.path(), "in/out").unwrap();
    folder.remove().await.unwrap();
    assert_eq!(names(outside.path()), ["kept"]);
}

#[test]
fn what_a_killed_process_left_goes_and_what_lives_stays() {
    let place = tempfile::tempdir().unwrap();
    let killed = place.path().join("runtime-0").join("execution").join("deep");
    std::fs::create_dir_all(&killed).unwrap();
    std::fs::write(killed.join("file"), "text").unwrap();
    std::fs::create_dir(place.path().join("something else")).unwrap();
    let alive = ScratchRoot::open(place.path()).unwrap();
    let next = ScratchRoot::open(place.path()).unwrap();
    let mut expected = vec!["something else".to_owned(), alive.name.clone(), next.name.clone()];
    let mut found = names(place.path());
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_root_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let Err(error) = ScratchRoot::open(place.path()) else { unreachable!("it was used") };
    assert!(error.message().contains("not safe"), "{error}");
}
