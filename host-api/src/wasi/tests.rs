//! Where a guest's stdio goes, and what it may cost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{StdoutStream as _, WasiCliView as _};
use wasmtime_wasi::p2::bindings::cli::{stderr::Host as _, stdout::Host as _};
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::p2::{StreamError, StreamResult};

use super::stdio::{LOG_LINE_BYTES_MAX, LogWriter, Sink, Written};
use super::{Capture, Preopen, Stdio, WasiSettings, context};
use crate::fixture::{Fixture, Host, scope};
use crate::{Budget, BudgetName, Exhausted, Gate, Meter, Outcome};

async fn host() -> Host {
    Fixture::new().open().await
}

fn writer(host: &Host) -> LogWriter {
    LogWriter::new(host.state.gate())
}

#[track_caller]
fn write(stream: &impl Sink, bytes: &[u8]) {
    stream.write(Bytes::copy_from_slice(bytes)).unwrap();
}

/// Writes as a guest does: through a handle to its stdout or stderr.
fn write_stdio(host: &mut Host, stdout: bool, bytes: &'static [u8]) {
    let mut cli = host.state.cli();
    let stream = if stdout { cli.get_stdout() } else { cli.get_stderr() }.unwrap();
    host.state.ctx().table.get_mut(&stream).unwrap().write(Bytes::from_static(bytes)).unwrap();
}

/// The budget that a write ran into.
#[track_caller]
fn refused(written: StreamResult<()>) -> Exhausted {
    let Err(StreamError::Trap(error)) = written else { panic!("{written:?}") };
    *error.downcast_ref().unwrap()
}

#[tokio::test]
async fn lines_are_logged_as_they_end() {
    let host = host().await;
    let stderr = writer(&host);
    write(&stderr, b"one\ntwo\n\nthr");
    assert_eq!(host.log_lines(), ["one", "two", ""]);
    write(&stderr, b"");
    write(&stderr, b"ee");
    assert_eq!(host.log_lines(), Vec::<String>::new());
    write(&stderr, b"\nfour\r\n\xff\n");
    assert_eq!(host.log_lines(), ["three", "four\r", "\u{fffd}"]);
}

#[tokio::test]
async fn a_character_may_come_in_two_writes() {
    let host = host().await;
    let stderr = writer(&host);
    let (first, second) = "grün\n".as_bytes().split_at(3);
    write(&stderr, first);
    write(&stderr, second);
    assert_eq!(host.log_lines(), ["grün"]);
}

#[tokio::test]
async fn clones_of_a_stream_write_one_line() {
    let host = host().await;
    let stderr = writer(&host);
    let again = stderr.clone();
    write(&stderr, b"a");
    write(&again, b"b\n");
    assert_eq!(host.log_lines(), ["ab"]);
}

#[tokio::test]
async fn a_long_line_is_cut() {
    let host = host().await;
    let stderr = writer(&host);
    let lengths = |host: &Host| host.log_lines().iter().map(String::len).collect::<Vec<_>>();
    write(&stderr, &[b'x'; 3 * LOG_LINE_BYTES_MAX]);
    write(&stderr, b"\n");
    assert_eq!(lengths(&host), [LOG_LINE_BYTES_MAX; 3], "in one write, and without an empty line after it");
    for _ in 0..9 {
        write(&stderr, &[b'y'; 1024]);
    }
    write(&stderr, b"\nz\n");
    assert_eq!(lengths(&host), [LOG_LINE_BYTES_MAX, 1024, 1]);
}

#[tokio::test]
async fn a_long_line_is_cut_between_characters() {
    let host = host().await;
    let stderr = writer(&host);
    let text = format!("x{}", "ü".repeat(LOG_LINE_BYTES_MAX));
    write(&stderr, format!("{text}\n").as_bytes());
    let lines = host.log_lines();
    assert_eq!(lines.concat(), text);
    assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= LOG_LINE_BYTES_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_byte_is_lost_and_no_line_is_too_long(pieces in proptest::collection::vec((0_usize..10_000, any::<bool>()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let host = runtime.block_on(host());
        let stderr = writer(&host);
        let mut written = String::new();
        for (length, ends) in pieces {
            let piece = "é".repeat(length / 2) + if ends { "\n" } else { "" };
            write(&stderr, piece.as_bytes());
            written += &piece;
        }
        stderr.flush_line();
        let lines = host.log_lines();
        prop_assert!(lines.iter().all(|line| line.len() <= LOG_LINE_BYTES_MAX));
        prop_assert_eq!(lines.concat(), written.replace('\n', ""));
    }
}

#[tokio::test]
async fn a_line_past_log_bytes_ends_the_execution() {
    let host = Fixture::new().limit(BudgetName::LogBytes, 10).open().await;
    let stderr = writer(&host);
    write(&stderr, b"1234\n");
    let exhausted = refused(stderr.write(Bytes::from_static(b"123456\n")));
    assert_eq!((exhausted.budget, exhausted.limit, exhausted.used), (BudgetName::LogBytes, 10, 5));
    assert_eq!(host.log_lines(), ["1234"]);
}

#[tokio::test]
async fn the_unfinished_line_is_logged_at_the_end() {
    for stdout in [false, true] {
        let mut host = host().await;
        write_stdio(&mut host, stdout, b"whole\nrest");
        assert_eq!(host.log_lines(), ["whole"]);
        host.finish(Outcome::Trapped).await;
        assert_eq!(host.log_lines(), ["rest"]);
        host.state.close();
        assert_eq!(host.log_lines(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_unfinished_line_keeps_within_log_bytes() {
    let mut host = Fixture::new().limit(BudgetName::LogBytes, 3).open().await;
    write_stdio(&mut host, false, b"1234");
    host.finish(Outcome::Completed).await;
    assert_eq!((host.log_lines(), host.used(BudgetName::LogBytes)), (Vec::new(), 0));
}

#[test]
fn what_a_command_writes_is_kept_up_to_the_limit() {
    let meter = Arc::new(Meter::new(Budget::default().with(BudgetName::OutputBytes, 10)));
    let capture = Capture::new(Arc::clone(&meter));
    let mut stream = Written(capture.clone()).p2_stream();
    let mut write = |bytes: &'static [u8]| stream.write(Bytes::from_static(bytes));
    write(b"123456").unwrap();
    write(b"7890").unwrap();
    let exhausted = refused(write(b"x"));
    assert_eq!((exhausted.budget, exhausted.limit, exhausted.used), (BudgetName::OutputBytes, 10, 10));
    assert_eq!(meter.refused(), Some(exhausted));
    assert_eq!(capture.take(), b"1234567890");
    assert_eq!(capture.take(), b"");
    assert_eq!(meter.fuel_owed(), 11);
}

#[test]
fn of_the_write_that_passes_the_limit_what_fits_is_kept() {
    let capture = Capture::new(Arc::new(Meter::new(Budget::default().with(BudgetName::OutputBytes, 4))));
    assert_eq!(refused(capture.clone().write(Bytes::from_static(b"123456"))).used, 4);
    assert_eq!(capture.take(), b"1234");
}

#[tokio::test]
async fn random_bytes_are_metered() {
    let mut host = Fixture::new().limit(BudgetName::RandomBytes, 20).open().await;
    let random = host.state.ctx().ctx.random();
    assert_eq!(random.get_random_bytes(12).unwrap().len(), 12);
    random.get_random_u64().unwrap();
    assert_eq!((host.used(BudgetName::RandomBytes), host.meter().tripped()), (20, None));
    assert!(host.meter().fuel_owed() >= 12 * 16 + 8);
    host.state.ctx().ctx.random().get_random_u64().unwrap();
    assert_eq!(host.meter().tripped().map(|tripped| tripped.budget), Some(BudgetName::RandomBytes));
}

#[test]
fn a_folder_that_is_not_there_is_named_as_the_caller_named_it() {
    let gate = Arc::new(Gate::new(Arc::new(scope()), Arc::new(Meter::new(Budget::default()))));
    let host = PathBuf::from("/nonexistent/secret");
    let preopens = vec![Preopen { host, guest: "/data".to_owned(), writable: false }];
    let settings = WasiSettings { preopens, ..WasiSettings::default() };
    let Err(error) = context(&gate, &settings, Stdio::Workload) else { panic!() };
    assert_eq!(error.message(), "the folder given as \"/data\" cannot be opened");
    assert!(error.cause().is_some());
}
