//! Compiling in a child process, from the side of the one that wants the code.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use holm_host_api::HostError;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use super::order::{Order, status};
use super::{CompileError, CompileLimits, CompilerCommand};
use crate::workload::Workload;
use crate::workload::shown::{MESSAGE_CHARS_MAX, shown};

/// What is kept of a worker's stderr, in bytes.
const SAID_BYTES_MAX: u64 = 16 * 1024;

/// What the standard library says before it gives up for want of memory.
const OUT_OF_MEMORY: &str = "memory allocation of";

/// Compiles a workload. If this future is dropped, the child is killed.
///
/// # Errors
/// The workload cannot be compiled within the limits, or the child cannot be started or fails by itself.
pub(super) async fn compile(
    command: &CompilerCommand,
    limits: &CompileLimits,
    fingerprint: &str,
    workload: &Workload,
) -> Result<Vec<u8>, CompileError> {
    let order =
        Order { engine: fingerprint.to_owned(), component_bytes: workload.component().len() as u64, limits: *limits };
    let order = order.line().map_err(|error| failed(error.to_string()))?;
    let mut child = start(command).map_err(|error| failed(format!("{}: {error}", command.program.display())))?;
    let talk = talk(&mut child, &order, workload.component(), limits.code_bytes);
    let talked = tokio::time::timeout(Duration::from_millis(limits.wall_ms), talk).await;
    // It has ended, or must.
    let _ = child.start_kill();
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    let Ok(talked) = talked else {
        return Err(CompileError::TookTooLong(format!("it takes more than {} s", seconds(limits.wall_ms))));
    };
    let Talked { code, said } = talked.map_err(|error| failed(error.to_string()))?;
    if code.len() as u64 > limits.code_bytes {
        let limit = mebibytes(limits.code_bytes);
        return Err(CompileError::Refused(format!("it becomes more than {limit} MiB of code")));
    }
    if status.success() {
        return Ok(code);
    }
    let said = shown(said.trim(), MESSAGE_CHARS_MAX);
    tracing::warn!(digest = %workload.digest(), "the compiler ended with {status}: {said}");
    Err(verdict(status, said, limits))
}

/// Nothing of this process is the child's: no variable, no folder, no file, no terminal.
fn start(command: &CompilerCommand) -> io::Result<Child> {
    Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for this process, which knows what to do about its child.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// What came back from a child.
struct Talked {
    /// One byte more than it may be, if there is more.
    code: Vec<u8>,
    said: String,
}

async fn talk(child: &mut Child, order: &[u8], component: &[u8], code_bytes_max: u64) -> io::Result<Talked> {
    let gone = || io::Error::other("it has no stdin, stdout or stderr");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    let receive = async move {
        let mut code = Vec::new();
        // One that has more to give finds nobody who takes it, and ends.
        stdout.take(code_bytes_max.saturating_add(1)).read_to_end(&mut code).await.map(|_| code)
    };
    let ((), code, said) = tokio::join!(send(&mut stdin, order, component), receive, read_said(stderr));
    child.wait().await?;
    // To close it before would say that nobody wants the code any more.
    drop(stdin);
    Ok(Talked { code: code?, said })
}

/// A child that ended before it had read everything says itself why.
async fn send(stdin: &mut ChildStdin, order: &[u8], component: &[u8]) {
    if stdin.write_all(order).await.is_ok() {
        let _ = stdin.write_all(component).await;
    }
}

/// The first of what is said; all is read, so that nobody waits for a reader.
async fn read_said(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    if (&mut stderr).take(SAID_BYTES_MAX).read_to_end(&mut said).await.is_ok() {
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What it says of the workload that a worker ended like this.
fn verdict(status: ExitStatus, said: String, limits: &CompileLimits) -> CompileError {
    const XCPU: i32 = Signal::XCPU.as_raw();
    const ABORT: i32 = Signal::ABORT.as_raw();
    const CRASHES: [i32; 5] =
        [ABORT, Signal::SEGV.as_raw(), Signal::BUS.as_raw(), Signal::ILL.as_raw(), Signal::FPE.as_raw()];
    let refused = |reason: String| CompileError::Refused(reason);
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(status::REFUSED) => refused(said),
        (Some(code), _) if code == i32::from(status::BROKE) => refused("the compiler gave up on it".to_owned()),
        (_, Some(XCPU)) => refused(format!("it takes more than {} s of CPU time", limits.cpu_seconds)),
        (_, Some(ABORT)) if said.contains(OUT_OF_MEMORY) => {
            refused(format!("it takes more than {} MiB of memory", mebibytes(limits.memory_bytes)))
        }
        (_, Some(signal)) if CRASHES.contains(&signal) => refused("the compiler crashed on it".to_owned()),
        // Also a kill from outside, be it by the kernel for want of memory: that says nothing of the workload.
        _ => failed(format!("it ended with {status}: {said}")),
    }
}

fn failed(cause: String) -> CompileError {
    HostError::new("the compiler failed").because(cause).into()
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CompileLimits =
        CompileLimits { memory_bytes: 64 << 20, cpu_seconds: 7, wall_ms: 1_500, code_bytes: 1, threads: 1 };

    fn ended(wait_status: i32, said: &str) -> Result<String, String> {
        match verdict(ExitStatus::from_raw(wait_status), said.to_owned(), &LIMITS) {
            CompileError::Refused(reason) | CompileError::TookTooLong(reason) => Ok(reason),
            CompileError::Host(error) => Err(error.cause().unwrap_or_default()),
        }
    }

    #[test]
    fn every_limit_has_a_name() {
        assert_eq!(ended(Signal::XCPU.as_raw(), ""), Ok("it takes more than 7 s of CPU time".into()));
        let said = "memory allocation of 12 bytes failed";
        assert_eq!(ended(Signal::ABORT.as_raw(), said), Ok("it takes more than 64 MiB of memory".into()));
    }

    #[test]
    fn what_the_bytes_do_is_refused_and_what_the_host_does_is_not() {
        assert_eq!(ended(3 << 8, "too odd"), Ok("too odd".into()));
        assert_eq!(ended(4 << 8, "panicked at src/x.rs"), Ok("the compiler gave up on it".into()));
        assert_eq!(ended(Signal::SEGV.as_raw(), ""), Ok("the compiler crashed on it".into()));
        assert_eq!(ended(Signal::ABORT.as_raw(), "stack overflow"), Ok("the compiler crashed on it".into()));
        for failed in [6 << 8, 1 << 8, Signal::KILL.as_raw(), Signal::TERM.as_raw()] {
            assert!(ended(failed, "no threads").is_err_and(|cause| cause.contains("no threads")));
        }
    }
}
