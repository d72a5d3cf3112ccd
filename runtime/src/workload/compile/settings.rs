//! Where untrusted bytes are compiled, and what that may cost.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which process compiles.
#[derive(Clone, Debug, Default)]
pub enum CompileIn {
    /// This one: for programs that compile nothing but what they trust. [`CompileLimits`] do not hold here, as
    /// nothing can stop the compiler, and what breaks it breaks this process.
    #[default]
    ThisProcess,
    /// A child, which ends after one workload: for everybody who compiles what others wrote.
    Child(CompilerCommand),
}

/// The program that compiles: it calls [`compile_worker`](crate::compile_worker), and was built with this very
/// version of this crate. It is started with these arguments in an empty environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilerCommand {
    /// The program: an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl CompilerCommand {
    /// The program that runs now, with one argument that its `main` knows.
    pub fn this_program(argument: impl Into<OsString>) -> Self {
        // The link names the file that runs, whatever an upgrade has put in its place since.
        CompilerCommand { program: "/proc/self/exe".into(), args: vec![argument.into()] }
    }
}

/// What compiling one workload in a child may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileLimits {
    /// Memory that the child may write to, in bytes, its program and the stacks of its threads included.
    pub memory_bytes: u64,
    /// CPU time of all its threads, in seconds.
    pub cpu_seconds: u64,
    /// Time from its start to its end, in milliseconds.
    pub wall_ms: u64,
    /// Size of the code that it makes, in bytes.
    pub code_bytes: u64,
    /// Threads that compile. There are no more than cores.
    pub threads: u32,
}

impl Default for CompileLimits {
    /// Four times what a Python interpreter of 18 MB takes on two cores, or more.
    fn default() -> Self {
        CompileLimits { memory_bytes: 2 << 30, cpu_seconds: 120, wall_ms: 60_000, code_bytes: 1 << 30, threads: 8 }
    }
}
