//! Compiled code on disk is a help, never a risk: what is not good is compiled anew.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use holm_runtime::workload::CompiledFrom;
use holm_runtime::{ExecutionRequest, Runtime};

use crate::support::{ECHO, name};

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
    std::fs::read_dir(configuration).unwrap().next().unwrap().unwrap().path()
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
    for damage in [&b""[..], b"\x7fELF", b"nonsense that is long enough to be read as a header of something"] {
        std::fs::write(cached(dir.path()), damage).unwrap();
        assert_eq!(compile(dir.path()).await, CompiledFrom::Source);
        assert_eq!(compile(dir.path()).await, CompiledFrom::Disk);
    }
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path()).await;
    let configuration = cached(dir.path()).parent().unwrap().to_owned();
    std::fs::set_permissions(&configuration, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Runtime::builder().executions_max(2).cache_dir(dir.path()).build().err().unwrap();
    assert!(refused.message().contains("others can write to it"), "{refused}");
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
