//! The fixed minimal WASI: bounded stdio, clocks and random. No sockets; no environment and no files
//! but what the caller gave.

mod files;
mod poll;
mod random;
mod stdio;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random as wasi_random};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiView as _};

use crate::{BudgetName, Gate, HostError, State};

use files::HasFiles;
pub(crate) use files::{Files, FilesView};
use poll::HasPoll;
pub(crate) use poll::PollView;
use random::MeteredRandom;
pub use stdio::{Capture, Stdio};
use stdio::{LogWriter, Stdin, Written};

/// The grant without which an execution gets no scratch folder.
pub const SCRATCH_GRANT: &str = "scratch";

/// Where a guest sees its scratch folder, unless the caller says otherwise.
pub const SCRATCH_GUEST_PATH: &str = "/scratch";

/// The interfaces of WASI that every workload may import.
pub const INTERFACES: &[&str] = &[
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/random@0.2.12",
];

/// A folder of the host that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preopen {
    /// The folder on the host.
    pub host: PathBuf,
    /// Its path for the guest.
    pub guest: String,
    /// Whether the guest may change anything in it.
    pub writable: bool,
}

/// What the caller gives an execution through WASI.
#[derive(Clone, Debug, Default)]
pub struct WasiSettings {
    /// Arguments, without the name of the program.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The only files there are, but for those in the scratch folder.
    pub preopens: Vec<Preopen>,
    /// Where the guest sees a folder of its own, empty at first, that goes when the execution ends: usually
    /// [`SCRATCH_GUEST_PATH`]. `None` is no such folder. It needs the grant `scratch`.
    pub scratch: Option<String>,
}

/// Adds the WASI interfaces.
///
/// # Errors
/// One of them is in the linker already.
pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<State, HasPoll>(l, State::poll)?;
    io::streams::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    wasi_random::random::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    wasi_random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    wasi_random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    filesystem::preopens::add_to_linker::<State, HasFiles>(l, State::files)?;
    filesystem::types::add_to_linker::<State, HasFiles>(l, State::files)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    Ok(())
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// The WASI side of one execution.
pub struct Wasi {
    pub(crate) ctx: WasiCtx,
    pub(crate) files: Files,
    logs: Vec<LogWriter>,
}

impl Wasi {
    /// Gives the guest this folder, which must be empty and nobody else's, within `scratch_bytes` and
    /// `scratch_files`. The guest sees it at the path `guest`.
    #[must_use]
    pub fn with_scratch(mut self, gate: &Gate, folder: File, guest: String) -> Self {
        self.files = Files::with_scratch(Arc::clone(gate.meter()), folder, guest);
        self
    }

    /// Logs the last lines of stdout and stderr that did not end.
    pub(crate) fn flush_lines(&self) {
        self.logs.iter().for_each(LogWriter::flush_line);
    }
}

/// Makes the WASI side of one execution.
///
/// # Errors
/// A folder cannot be opened.
pub fn context(gate: &Arc<Gate>, settings: &WasiSettings, stdio: Stdio) -> Result<Wasi, HostError> {
    let mut builder = WasiCtxBuilder::new();
    builder.args(&settings.args).envs(&settings.env).allow_tcp(false).allow_udp(false);
    let meter = gate.meter();
    builder.max_random_size(meter.limit(BudgetName::RandomBytes));
    builder.secure_random(MeteredRandom(Arc::clone(meter)));
    builder.insecure_random(MeteredRandom(Arc::clone(meter)));
    let stderr = LogWriter::new(gate);
    builder.stderr(Written(stderr.clone()));
    let mut logs = vec![stderr];
    match stdio {
        Stdio::Command { stdin, stdout } => {
            builder.stdin(Stdin(MemoryInputPipe::new(stdin))).stdout(Written(stdout));
        }
        Stdio::Workload => {
            let stdout = LogWriter::new(gate);
            builder.stdout(Written(stdout.clone()));
            logs.push(stdout);
        }
    }
    for Preopen { host, guest, writable } in &settings.preopens {
        let perms = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder.preopened_dir(host, guest, perms).map_err(|error| {
            HostError::new(format!("the folder given as {guest:?} cannot be opened")).because(error.to_string())
        })?;
    }
    Ok(Wasi { ctx: builder.build(), files: Files::default(), logs })
}

#[cfg(test)]
mod tests;
