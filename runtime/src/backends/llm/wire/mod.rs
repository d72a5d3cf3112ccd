//! The way to the providers' servers: every byte in both directions goes through here, within limits of size and time.
//! One wire serves all users of a process. Who asks is said in each request's headers and nowhere else: a connection
//! knows nobody.

mod addresses;
mod auth;
mod aws;
mod clients;
mod events;
mod failure;
mod redact;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::protocol::{Framing, Outgoing};
use super::{Provider, Timeouts};
use aws::AwsFrames;
use clients::Clients;
use events::{EventReader, EventTooLarge};

pub(super) use redact::redact;

/// One request to one provider's servers.
pub(super) struct Call<'a> {
    pub(super) provider: &'a Provider,
    pub(super) outgoing: Outgoing,
    pub(super) timeouts: Timeouts,
}

/// One event of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty if it has none.
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

/// Why there is no answer from a server.
#[derive(Debug)]
pub(super) enum WireError {
    /// It answered with a status that is no success. Of its words there are the first.
    Status {
        status: u16,
        /// When it says that it can be asked again.
        retry_after: Option<Duration>,
        body: Vec<u8>,
    },
    /// It could not be connected to, or not safely. A clause for the user, without the address.
    Connect(String),
    /// Its address is not one that the user may choose.
    Forbidden,
    /// It did not do this in time: `connect`, `first token`, `answer`.
    TimedOut { waiting_for: &'static str, after_ms: u64 },
    /// The connection broke, before or within the answer. A clause for the user.
    BrokeOff(String),
    /// The answer, or one event of it, has more bytes than are read.
    TooLarge { bytes_max: usize },
    /// The request cannot be made: a key with characters that no header takes, a path that is none. A clause for the user.
    Request(String),
}

/// The longest answers of today's models are half a megabyte. An execution may have many under way, and nobody bills it for
/// what they hold.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How many bytes of answers are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of an answer in one piece.
    pub(super) answer_bytes_max: usize,
    /// Of vectors in one piece: some hundreds of them, with thousands of numbers each.
    pub(super) vectors_bytes_max: usize,
    /// Of one event.
    pub(super) event_bytes_max: usize,
    /// Of all events of an answer, with what is between them. Servers wrap each word in hundreds of bytes, and nobody
    /// holds them together.
    pub(super) events_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            answer_bytes_max: ANSWER_BYTES_MAX,
            vectors_bytes_max: 16 << 20,
            event_bytes_max: 1 << 20,
            events_bytes_max: 64 << 20,
        }
    }
}

/// Of what a server says with a status that is no success, so many bytes are read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// And for so long.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Sends requests and reads answers.
#[derive(Clone)]
pub(super) struct Wire {
    clients: Arc<Clients>,
    limits: Limits,
}

impl Wire {
    /// Makes the way out. Servers are trusted whose certificates the public roots vouch for, or these others, in PEM.
    /// Nothing of the environment changes that.
    ///
    /// # Errors
    /// The certificates cannot be read; in a clause for the operator.
    pub(super) fn new(limits: Limits, more_roots: &[u8]) -> Result<Self, String> {
        Ok(Wire { clients: Arc::new(Clients::new(more_roots)?), limits })
    }

    /// Asks, and reads the whole answer. Dropping the future closes the connection.
    pub(super) async fn whole(&self, call: Call<'_>) -> Result<Vec<u8>, WireError> {
        self.read(call, self.limits.answer_bytes_max).await
    }

    /// The same, for vectors.
    pub(super) async fn vectors(&self, call: Call<'_>) -> Result<Vec<u8>, WireError> {
        self.read(call, self.limits.vectors_bytes_max).await
    }

    async fn read(&self, call: Call<'_>, bytes_max: usize) -> Result<Vec<u8>, WireError> {
        let clock = Clock::start(call.timeouts);
        // Most servers send the head of such an answer when all of it is written.
        let mut response = self.send(call, Phase::Answer, &clock).await?;
        let declared = response.content_length().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if declared > bytes_max {
            return Err(WireError::TooLarge { bytes_max });
        }
        // What a server only says that it will send takes no memory yet.
        let mut body = Vec::with_capacity(declared.min(64 << 10));
        while let Some(chunk) = clock.wait(Phase::Answer, next_chunk(&mut response)).await?? {
            if body.len().saturating_add(chunk.len()) > bytes_max {
                return Err(WireError::TooLarge { bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Asks, and gives the answer's events as they come.
    pub(super) async fn open(&self, call: Call<'_>) -> Result<Events, WireError> {
        let reader = Reader::new(call.outgoing.framing, self.limits.event_bytes_max)?;
        let clock = Clock::start(call.timeouts);
        let response = self.send(call, Phase::FirstToken, &clock).await?;
        Ok(Events {
            response: Some(response),
            reader,
            unread: Bytes::new(),
            phase: Phase::FirstToken,
            clock,
            bytes: 0,
            bytes_max: self.limits.events_bytes_max,
        })
    }

    /// Asks, and waits for the head of an answer that is a success.
    async fn send(&self, call: Call<'_>, phase: Phase, clock: &Clock) -> Result<Response, WireError> {
        let Call { provider, outgoing, timeouts } = call;
        let request = request::request(provider, outgoing)?;
        let client = self.clients.get(provider.addresses, timeouts.connect_ms)?;
        let response = clock.wait(phase, client.execute(request)).await?;
        let response = response.map_err(|error| failure::of_request(&error, timeouts))?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response, clock).await) }
    }
}

/// What a server says that does not give an answer; redirects too, which could lead anywhere.
async fn refused(mut response: Response, clock: &Clock) -> WireError {
    let status = response.status().as_u16();
    let retry_after = failure::retry_after(response.headers());
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = next_chunk(&mut response).await {
            let room = REFUSAL_BYTES_MAX.saturating_sub(body.len());
            body.extend(chunk.into_iter().take(room));
            if body.len() >= REFUSAL_BYTES_MAX {
                break;
            }
        }
    };
    // What has come by then has to do.
    let _complete = timeout_at(clock.answer_by.min(later(Instant::now(), REFUSAL_TIME_MAX)), read).await;
    WireError::Status { status, retry_after, body }
}

async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, WireError> {
    response.chunk().await.map_err(|error| failure::of_body(&error))
}

/// The events of one answer. Dropping it closes the connection, unless the answer was read to its end.
pub(super) struct Events {
    /// None after the end, and after an error.
    response: Option<Response>,
    reader: Reader,
    /// What came and is not read yet.
    unread: Bytes,
    phase: Phase,
    clock: Clock,
    bytes: usize,
    bytes_max: usize,
}

impl Events {
    /// The next event; none after the last one. After an error there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, WireError> {
        let next = self.read().await;
        match &next {
            Ok(Some(_)) => self.phase = Phase::Answer,
            Ok(None) => {}
            Err(_) => {
                self.response = None;
                self.unread = Bytes::new();
            }
        }
        next
    }

    /// Passes over what is left, for so long.
    pub(super) async fn end_within(mut self, time: Duration) {
        let _ended =
            timeout_at(later(Instant::now(), time), async { while let Ok(Some(_)) = self.next().await {} }).await;
    }

    async fn read(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            if let Some(event) = self.reader.next(&mut self.unread)? {
                return Ok(Some(event));
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            let Some(chunk) = self.clock.wait(self.phase, next_chunk(response)).await?? else {
                self.response = None;
                return self.reader.finish();
            };
            self.bytes = self.bytes.saturating_add(chunk.len());
            if self.bytes > self.bytes_max {
                return Err(WireError::TooLarge { bytes_max: self.bytes_max });
            }
            self.unread = chunk;
        }
    }
}

/// Finds the events in an answer's bytes.
enum Reader {
    ServerSent { reader: EventReader, bytes_max: usize },
    Aws(AwsFrames),
}

impl Reader {
    fn new(framing: Framing, bytes_max: usize) -> Result<Self, WireError> {
        match framing {
            Framing::ServerSentEvents => Ok(Reader::ServerSent { reader: EventReader::new(bytes_max), bytes_max }),
            Framing::AwsEvents => Ok(Reader::Aws(AwsFrames::new(bytes_max))),
            Framing::Whole => Err(WireError::Request("an answer in one piece has no events".to_owned())),
        }
    }

    /// Takes bytes up to the end of the next event. None if they end before it.
    fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Event>, WireError> {
        match self {
            Reader::ServerSent { reader, bytes_max } => {
                reader.next(bytes).map_err(|EventTooLarge| WireError::TooLarge { bytes_max: *bytes_max })
            }
            Reader::Aws(frames) => {
                frames.push(&std::mem::take(bytes));
                frames.next()
            }
        }
    }

    /// There are no more bytes.
    fn finish(&mut self) -> Result<Option<Event>, WireError> {
        match self {
            Reader::ServerSent { reader, .. } => Ok(reader.finish()),
            Reader::Aws(frames) => frames.finish().map(|()| None),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    FirstToken,
    Answer,
}

/// Until when a request's answer must be there.
#[derive(Clone, Copy, Debug)]
struct Clock {
    timeouts: Timeouts,
    first_by: Instant,
    answer_by: Instant,
}

impl Clock {
    fn start(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        let after_ms = |ms| later(now, Duration::from_millis(ms));
        Clock { timeouts, first_by: after_ms(timeouts.first_token_ms), answer_by: after_ms(timeouts.answer_ms) }
    }

    /// Waits for this until its time is over.
    async fn wait<T>(&self, phase: Phase, awaited: impl Future<Output = T>) -> Result<T, WireError> {
        let (by, waiting_for, after_ms) = match phase {
            Phase::FirstToken if self.first_by < self.answer_by => {
                (self.first_by, "first token", self.timeouts.first_token_ms)
            }
            _ => (self.answer_by, "answer", self.timeouts.answer_ms),
        };
        let timed_out = WireError::TimedOut { waiting_for, after_ms };
        // Who always has something ready is never waited for, and is late all the same.
        if Instant::now() >= by {
            return Err(timed_out);
        }
        timeout_at(by, awaited).await.map_err(|_elapsed| timed_out)
    }
}

/// A moment in the future; one beyond all reason is a year away.
fn later(now: Instant, after: Duration) -> Instant {
    now + after.min(Duration::from_secs(365 * 24 * 60 * 60))
}
