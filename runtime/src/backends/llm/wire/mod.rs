//! The way to the providers' servers: every byte in both directions goes through here, within limits of size and time.

mod aws;

use std::time::Duration;

use super::protocol::Outgoing;
use super::{Provider, Timeouts};

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
    /// The connection broke, before or within the answer.
    BrokeOff(String),
    /// The answer, or one event of it, has more bytes than are read.
    TooLarge { bytes_max: usize },
    /// The request cannot be made: a key with characters that no header takes, a path that is none.
    Request(String),
}
