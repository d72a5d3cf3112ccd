//! Compiled code on disk is a help, never a risk: what is not good is compiled anew.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use holm_runtime::workload::CompiledFrom;
use holm_runtime::{ExecutionRequest, Runtime};

use crate::command::{Ended, Place};
use crate::support::{ECHO, first, name};

async fn compile(dir: &Path) -> CompiledFrom {
    let runtime = Runtime::builder().executions_max(2).cache_dir(dir).build().unwrap();
    let workload = runtime.intake(ECHO.as_bytes()).unwrap();
    let from = runtime.compile(&workload).await.unwrap();
    let execution = runtime.execute(ExecutionRequest::new(name("alice"), workload.clone()).input("hi")).await;
    assert_eq!(execution.output, b"hi");
    assert_eq!(runtime.compile(&workload).await.unwrap(), CompiledFrom::Memory);
    from
}

fn cached(dir: &Path) -> std::path::PathBuf {
    let configuration = std::fs::read_dir(dir.join("compiled")).unwrap().next().unwrap().unwrap().path();
    let mut files = std::fs::read_dir(configuration).unwrap().map(|file| file.unwrap().path());
    files.find(|file| file.extension().is_some_and(|ending| ending == "cwasm")).unwrap()
}

#[tokio::test]
async fn the_second_start_maps_what_the_first_compiled() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(compile(dir.path()).await, CompiledFrom::Source);
    assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
}

#[tokio::test]
async fn a_damaged_file_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path()).await;
    let good = std::fs::read(cached(dir.path())).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let nonsense = b"nonsense that is long enough to be read as a header of something".to_vec();
    let mut damages = vec![Vec::new(), b"\x7fELF".to_vec(), nonsense, good[..good.len() - 1].to_vec()];
    // A seal is the last 32 bytes. The middle of the file is machine code, which wasmtime would run.
    damages.extend([0, good.len() / 2, good.len() - 33, good.len() - 32, good.len() - 1].map(flipped));
    damages.extend([good[..good.len() - 32].to_vec(), good[..good.len() / 2].to_vec(), [&good[..], b"x"].concat()]);
    for damage in damages {
        std::fs::write(cached(dir.path()), damage).unwrap();
        assert_eq!(compile(dir.path()).await, CompiledFrom::Source);
        assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
    }
}

/// Good code in a wrong place: it would run, and give what another workload gives.
#[tokio::test]
async fn the_code_of_another_workload_is_not_taken_for_this_ones() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().executions_max(2).cache_dir(dir.path()).build().unwrap();
    let empty = first("", "(local.set $len (i32.const 0))");
    runtime.compile(&runtime.intake(empty.as_bytes()).unwrap()).await.unwrap();
    let other = cached(dir.path());
    let foreign = std::fs::read(&other).unwrap();
    std::fs::remove_file(other).unwrap();
    compile(dir.path()).await;
    std::fs::write(cached(dir.path()), foreign).unwrap();
    assert_eq!(compile(dir.path()).await, CompiledFrom::Source);
    assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
}

#[tokio::test]
async fn what_another_folder_sealed_is_not_taken_here() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    compile(here.path()).await;
    compile(elsewhere.path()).await;
    std::fs::copy(cached(elsewhere.path()), cached(here.path())).unwrap();
    assert_eq!(compile(here.path()).await, CompiledFrom::Source);
    std::fs::copy(cached(elsewhere.path()), cached(here.path())).unwrap();
    std::fs::copy(elsewhere.path().join("key"), here.path().join("key")).unwrap();
    assert_eq!(compile(here.path()).await, CompiledFrom::Disk, "it is the key that makes the difference");
}

#[tokio::test]
async fn a_key_that_others_can_read_is_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path()).await;
    std::fs::set_permissions(dir.path().join("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(compile(dir.path()).await, CompiledFrom::Source);
    assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
}

#[test]
fn the_operator_hears_of_a_file_that_is_not_used() {
    let place = Place::new();
    let echo = place.file("echo.wat", ECHO.as_bytes());
    let run = || {
        let mut command = place.bare(["exec", "--user", "alice", "--input", "x", "--quiet", "-v"]);
        command.args(["--data", "data", "--cache-dir", "cache"]).arg(&echo);
        let ended = Ended::of(command.output().unwrap()).with_status(0);
        assert_eq!(ended.text(), "x");
        ended
    };
    assert_eq!(run().stderr, "");
    let cached = cached(&place.path("cache"));
    let mut bytes = std::fs::read(&cached).unwrap();
    bytes[1000] ^= 0x40;
    std::fs::write(&cached, bytes).unwrap();
    run().saying("WARN").saying("it is damaged, or was not written here").saying("sha256:");
    assert_eq!(run().stderr, "");
}

#[tokio::test]
async fn what_a_process_left_half_written_goes_after_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path()).await;
    let folder = cached(dir.path()).parent().unwrap().to_owned();
    let hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    for (name, old) in [("old.cwasm.1.tmp", true), ("new.cwasm.1.tmp", false)] {
        let file = std::fs::File::create(folder.join(name)).unwrap();
        if old {
            file.set_modified(hours_ago).unwrap();
        }
    }
    let code = std::fs::File::options().append(true).open(cached(dir.path())).unwrap();
    code.set_modified(hours_ago).unwrap();
    assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
    let exists = |name: &str| folder.join(name).exists();
    assert_eq!((exists("old.cwasm.1.tmp"), exists("new.cwasm.1.tmp")), (false, true));
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path()).await;
    let cached = cached(dir.path());
    // Whoever can write to a folder on the way can put another in the place of what is below.
    for folder in cached.ancestors().skip(1).take(3) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Runtime::builder().executions_max(2).cache_dir(dir.path()).build().err().unwrap();
        assert!(refused.message().contains("others can write to it"), "{refused}");
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
}

#[tokio::test]
async fn concurrent_callers_compile_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().executions_max(2).cache_dir(dir.path()).build().unwrap();
    let workload = runtime.intake(ECHO.as_bytes()).unwrap();
    let all = futures::future::join_all((0..8).map(|_| runtime.compile(&workload))).await;
    assert!(all.into_iter().all(|compiled| compiled.is_ok()));
    let files = std::fs::read_dir(cached(dir.path()).parent().unwrap()).unwrap().count();
    assert_eq!(files, 1);
}
