//! The fixed minimal WASI: bounded stdio, clocks and random. No sockets; no environment and no files
//! but what the caller gave.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand::TryRng;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiView as _};

use crate::{BudgetName, Gate, HostError, Level, Meter, State};

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

/// Bytes that a guest may write to a stream at once; the limit is the budget's, this is only the chunk.
const WRITE_CHUNK_BYTES: usize = 64 * 1024;

/// A line on stderr is logged when it ends. One that is longer than this is cut.
const LOG_LINE_BYTES_MAX: usize = 8 * 1024;

/// A list of random bytes is made one byte at a time, each through the meter.
const FUEL_PER_LISTED_BYTE: usize = 16;

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
    /// The only files there are.
    pub preopens: Vec<Preopen>,
}

/// Where a guest's stdio goes.
pub enum Stdio {
    /// A command: stdin is the input, stdout is captured as the output.
    Command {
        /// All of stdin.
        stdin: Bytes,
        /// Takes stdout.
        stdout: Capture,
    },
    /// A workload with an entry point: stdin is empty, stdout is logged like stderr.
    Workload,
}

/// Adds the WASI interfaces.
///
/// # Errors
/// One of them is in the linker already.
pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    io::streams::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
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
    logs: Vec<LogWriter>,
}

impl Wasi {
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
    builder.max_random_size(meter.budget().limit(BudgetName::RandomBytes));
    builder.secure_random(MeteredRandom(Arc::clone(meter)));
    builder.insecure_random(MeteredRandom(Arc::clone(meter)));
    let stderr = LogWriter::new(gate);
    builder.stderr(stderr.clone());
    let mut logs = vec![stderr];
    match stdio {
        Stdio::Command { stdin, stdout } => {
            builder.stdin(Stdin(MemoryInputPipe::new(stdin))).stdout(stdout);
        }
        Stdio::Workload => {
            let stdout = LogWriter::new(gate);
            builder.stdout(stdout.clone());
            logs.push(stdout);
        }
    }
    for Preopen { host, guest, writable } in &settings.preopens {
        let perms = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder.preopened_dir(host, guest, perms).map_err(|error| {
            HostError::new(format!("the folder given as {guest:?} cannot be opened")).because(error.to_string())
        })?;
    }
    Ok(Wasi { ctx: builder.build(), logs })
}

/// Collects what a guest writes, within `output_bytes`. Clones share what they collect.
#[derive(Clone)]
pub struct Capture {
    meter: Arc<Meter>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Capture {
    /// Collects nothing yet.
    pub fn new(meter: Arc<Meter>) -> Self {
        Capture { meter, bytes: Arc::default() }
    }

    /// Takes what was collected.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A guest's write past the budget ends the execution: a guest that ignores errors would flood for ever.
/// What fits is kept.
impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.meter.owe_fuel(bytes.len() as u64);
        let fits = self.meter.charge_up_to(BudgetName::OutputBytes, bytes.len() as u64);
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        let kept = bytes.get(..fits).unwrap_or(&bytes);
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(kept);
        if fits < bytes.len() {
            let used = self.meter.used(BudgetName::OutputBytes);
            return Err(StreamError::Trap(wasmtime::Error::new(self.meter.refuse(BudgetName::OutputBytes, used))));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_CHUNK_BYTES)
    }
}

#[async_trait::async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// Logs what a guest writes, a line at a time, within `log_bytes`. Clones share their unfinished line.
#[derive(Clone)]
struct LogWriter {
    gate: Arc<Gate>,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogWriter {
    fn new(gate: &Arc<Gate>) -> Self {
        LogWriter { gate: Arc::clone(gate), line: Arc::default() }
    }

    fn log(&self, line: &[u8]) -> StreamResult<()> {
        let logged = self.gate.log(Level::Info, &String::from_utf8_lossy(line));
        logged.map_err(|exhausted| StreamError::Trap(wasmtime::Error::new(exhausted)))
    }

    /// Goes on with a line, and logs the beginning of it whenever it gets too long.
    fn extend(&self, line: &mut Vec<u8>, mut text: &[u8]) -> StreamResult<()> {
        while let Some((fits, rest)) = text.split_at_checked(LOG_LINE_BYTES_MAX.saturating_sub(line.len()))
            && !rest.is_empty()
        {
            line.extend_from_slice(fits);
            // A character that is cut goes to the next line, as bytes that are none would.
            let cut = line.len() - line.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
            let next = line.split_off(cut);
            self.log(&std::mem::replace(line, next))?;
            text = rest;
        }
        line.extend_from_slice(text);
        Ok(())
    }

    fn flush_line(&self) {
        let line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            // The execution is over: a line beyond the budget is cut off like any other.
            let _ = self.log(&line);
        }
    }
}

impl OutputStream for LogWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.gate.meter().owe_fuel(bytes.len() as u64);
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.extend(&mut line, piece.strip_suffix(b"\n").unwrap_or(piece))?;
            if piece.ends_with(b"\n") {
                self.log(&std::mem::take(&mut *line))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_CHUNK_BYTES)
    }
}

#[async_trait::async_trait]
impl Pollable for LogWriter {
    async fn ready(&mut self) {}
}

impl IsTerminal for LogWriter {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogWriter {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// The input of a command, all of it there from the start.
struct Stdin(MemoryInputPipe);

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.0.clone())
    }
}

/// Random bytes of the host, within `random_bytes`. Past it the guest gets none: the call that asked
/// ends the execution.
struct MeteredRandom(Arc<Meter>);

impl MeteredRandom {
    fn take(&self, bytes: usize, fuel: usize) -> bool {
        self.0.owe_fuel(fuel as u64);
        let taken = self.0.charge(BudgetName::RandomBytes, bytes as u64);
        taken.map_err(|exhausted| self.0.trip(exhausted)).is_ok()
    }
}

impl TryRng for MeteredRandom {
    type Error = Infallible;

    /// WASI makes a list of random bytes of these, and of each keeps one byte: the guest pays for what it
    /// gets, and in fuel for what that takes.
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.take(1, FUEL_PER_LISTED_BYTE) { rand::rng().try_next_u32() } else { Ok(0) }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        if self.take(8, 8) { rand::rng().try_next_u64() } else { Ok(0) }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        if self.take(bytes.len(), bytes.len()) { rand::rng().try_fill_bytes(bytes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
