//! Streams on files of the scratch folder. A stream keeps its file open, and therefore charged.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn, spawn_blocking};

use super::FUEL_PER_QUESTION;
use super::quota::Opened;
use crate::Meter;

/// Bytes of one write. They are kept until it is done, and every stream of a guest may have one under way.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// A stream of `wasmtime-wasi`'s that reads a file of the scratch folder.
pub(super) struct Reader {
    pub(super) inner: Box<dyn InputStream>,
    pub(super) meter: Arc<Meter>,
    pub(super) _opened: Arc<Opened>,
}

impl Reader {
    fn moved(&self, read: StreamResult<Bytes>) -> StreamResult<Bytes> {
        read.inspect(|bytes| self.meter.owe_fuel(bytes.len() as u64))
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.read(size);
        self.moved(read)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.blocking_read(size).await;
        self.moved(read)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

/// Writes to a file of the scratch folder. A write goes on after the guest's call returned, and is charged
/// when its turn comes, before it begins.
pub(super) struct Writer {
    opened: Arc<Opened>,
    meter: Arc<Meter>,
    place: Place,
    state: Writing,
}

/// Where the next byte goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// To this offset.
    At(u64),
    /// To the end, wherever it is by then.
    End,
}

enum Writing {
    Ready,
    UnderWay(AbortOnDropJoinHandle<Result<Place, wasmtime::Error>>),
    Failed(wasmtime::Error),
    Closed,
}

impl Writer {
    pub(super) fn new(opened: Arc<Opened>, meter: Arc<Meter>, place: Place) -> Self {
        Writer { opened, meter, place, state: Writing::Ready }
    }

    /// Says how the last write ended, if it failed, and is closed from then on.
    fn take_failure(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, Writing::Closed) {
            Writing::Failed(error) => Err(StreamError::LastOperationFailed(error)),
            Writing::Closed => Err(StreamError::Closed),
            going_on => {
                self.state = going_on;
                Ok(())
            }
        }
    }
}

async fn write(opened: Arc<Opened>, place: Place, bytes: Bytes) -> Result<Place, wasmtime::Error> {
    // Waiting for the turn holds no thread: however many streams write, they cannot use up the threads that
    // the one whose turn it is needs.
    let _turn = opened.quota().turn().await;
    let at = match place {
        Place::At(at) => at,
        Place::End => opened.bytes(),
    };
    let end = at.saturating_add(bytes.len() as u64);
    let _resize = opened.resize(end)?;
    let file = Arc::clone(opened.file());
    spawn_blocking(move || file.write_all_at(&bytes, at)).await?;
    Ok(match place {
        Place::At(_) => Place::At(end),
        Place::End => Place::End,
    })
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take_failure()?;
        if matches!(self.state, Writing::UnderWay(_)) || bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("a write that check-write did not permit"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.meter.owe_fuel(FUEL_PER_QUESTION + bytes.len() as u64);
        self.state = Writing::UnderWay(spawn(write(Arc::clone(&self.opened), self.place, bytes)));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.take_failure()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.take_failure()?;
        Ok(if matches!(self.state, Writing::Ready) { WRITE_BYTES_MAX } else { 0 })
    }

    /// The guest drops the stream. What it wrote before is written.
    async fn cancel(&mut self) {
        self.ready().await;
        self.state = Writing::Closed;
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let Writing::UnderWay(write) = &mut self.state {
            self.state = match write.await {
                Ok(place) => {
                    self.place = place;
                    Writing::Ready
                }
                Err(error) => Writing::Failed(error),
            };
        }
    }
}
