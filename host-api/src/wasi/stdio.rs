//! A guest's stdio: what it may write, and where that goes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::{BudgetName, Gate, Level, Meter};

/// Bytes that a guest may write to a stream at once; the limit is the budget's, this is only the chunk.
const WRITE_CHUNK_BYTES: usize = 64 * 1024;

/// A line on stderr is logged when it ends. One that is longer than this is cut.
pub(super) const LOG_LINE_BYTES_MAX: usize = 8 * 1024;

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

/// Takes what a guest writes as it comes: there is nothing to wait for.
pub(super) trait Sink: Clone + Send + Sync + 'static {
    /// Takes all of it, or ends the execution.
    fn write(&self, bytes: Bytes) -> StreamResult<()>;
}

/// A sink as WASI's streams want it.
#[derive(Clone)]
pub(super) struct Written<S>(pub(super) S);

impl<S: Sink> OutputStream for Written<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_CHUNK_BYTES)
    }
}

#[async_trait::async_trait]
impl<S: Sink> Pollable for Written<S> {
    async fn ready(&mut self) {}
}

impl<S: Sink> IsTerminal for Written<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Written<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
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
impl Sink for Capture {
    fn write(&self, bytes: Bytes) -> StreamResult<()> {
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
}

/// Logs what a guest writes, a line at a time, within `log_bytes`. Clones share their unfinished line.
#[derive(Clone)]
pub(super) struct LogWriter {
    gate: Arc<Gate>,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogWriter {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
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

    pub(super) fn flush_line(&self) {
        let line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            // The execution is over: a line beyond the budget is cut off like any other.
            let _ = self.log(&line);
        }
    }
}

impl Sink for LogWriter {
    fn write(&self, bytes: Bytes) -> StreamResult<()> {
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
}

/// The input of a command, all of it there from the start.
pub(super) struct Stdin(pub(super) MemoryInputPipe);

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
