//! The command as a process: in an empty environment, in a folder of its own.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::cache_dir;

/// The command, as cargo built it for these tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_runtime-under-test");

/// What should end by itself in a moment has this long for it, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder in which the command runs and keeps its records. It goes when this is dropped.
pub struct Place {
    folder: TempDir,
}

/// What a run of the command left.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A run of the command that is under way. It does not outlive the test.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    seen: String,
}

impl Place {
    pub fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command with these arguments alone, reading nothing.
    pub fn bare<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(BINARY);
        // Help shows the name that a program was called by.
        command.arg0("runtime").args(args).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// The command with its folders here, and with the code that all tests compile once.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(["--data", "data", "--cache-dir"]);
        command.arg(cache_dir()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    /// `runtime exec` for alice.
    pub fn exec_command(&self, workload: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command = self.command(&["exec", "--user", "alice"]);
        command.arg(workload.as_ref()).args(args);
        command
    }

    pub fn exec(&self, workload: impl AsRef<Path>, args: &[&str]) -> Ended {
        Ended::of(self.exec_command(workload, args).output().unwrap())
    }

    /// The probe, with an action as its input.
    pub fn act_command(&self, action: &Value, args: &[&str]) -> Command {
        let mut command = self.command(&["exec", "--user", "alice", holm_test_artifacts::PROBE, "--input"]);
        command.arg(action.to_string()).args(args);
        command
    }

    pub fn act(&self, action: &Value, args: &[&str]) -> Ended {
        Ended::of(self.act_command(action, args).output().unwrap())
    }

    /// Runs a command that reads this on stdin.
    pub fn feed(&self, mut command: Command, stdin: impl AsRef<[u8]>) -> Ended {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
        Ended::of(child.wait_with_output().unwrap())
    }

    /// The records that are kept here, the oldest first, each in a file of its own, and no other file.
    pub fn records(&self) -> Vec<Value> {
        let read = |path: PathBuf| -> Value {
            let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let name = format!("{}.json", record["execution"].as_str().unwrap());
            assert_eq!(path.file_name().unwrap(), name.as_str());
            record
        };
        self.files("data").into_iter().map(read).collect()
    }

    /// The files in a folder, however deep, in order.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                match entry.unwrap().path() {
                    path if path.is_dir() => walk(&path, files),
                    path => files.push(path),
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.path(folder), &mut files);
        files.sort();
        files
    }
}

/// Waits until something is so.
pub fn eventually(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The most memory that the process ever held, so far; `None` once it ended, and before it began: until it has the
/// program's name it still shows the memory of the process that starts it, which is this one.
pub fn peak_bytes(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{}/status", child.id()))).ok()?;
    status.starts_with("Name:\truntime-under").then_some(())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().unwrap() * 1024)
}

impl Ended {
    pub fn of(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        for sign in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!stderr.contains(sign), "a panic reached the user: {stderr}");
        }
        Ended { status: output.status.code(), stdout: output.stdout, stderr }
    }

    /// The same, after a check of the exit status.
    #[track_caller]
    pub fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }

    /// The same, after a check that this was said on stderr.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in: {}", self.stderr);
        self
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// What is on stdout, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr, seen: String::new() }
    }

    /// Reads stderr until there is a line with this in it.
    pub fn until(&mut self, text: &str) {
        loop {
            let seen = self.seen.len();
            let read = self.stderr.read_line(&mut self.seen).unwrap();
            assert!(read > 0, "it ended and did not say {text:?}: {}", self.seen);
            if self.seen.get(seen..).unwrap().contains(text) {
                return;
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end without reading anything, while `meanwhile` is done every so often.
    pub fn wait(&mut self, mut meanwhile: impl FnMut(&Self)) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end; it said: {}", self.seen);
            std::thread::sleep(Duration::from_millis(20));
            meanwhile(self);
        }
    }

    /// Waits for the end, of a run that writes little.
    pub fn end(mut self) -> Ended {
        self.wait(|_| {});
        let mut stdout = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let mut stderr = std::mem::take(&mut self.seen).into_bytes();
        self.stderr.read_to_end(&mut stderr).unwrap();
        Ended::of(Output { status: self.child.wait().unwrap(), stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
