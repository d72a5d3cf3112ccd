//! Why a try gave no answer, and what that means for the next.

use std::time::Duration;

use super::config::Route;
use super::protocol::{Broken, Malformed, Protocol, Refusal, Unsupported, Why};
use super::wire::{self, WireError};
use crate::host_api::llm::LlmError;

/// A try that gave no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// A clause for the user: no key, no address.
    pub(super) why: String,
    pub(super) next: Next,
}

/// What to do after a failed try.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The same provider may answer the next time, after a time that it may have said.
    Again { after: Option<Duration> },
    /// Another provider may.
    Another,
    /// A model that can read more may.
    LargerModel,
    /// No provider would.
    Stop(LlmError),
}

impl Failed {
    pub(super) fn another(why: impl Into<String>) -> Self {
        Failed { why: why.into(), next: Next::Another }
    }
}

impl From<Malformed> for Failed {
    fn from(Malformed(why): Malformed) -> Self {
        Failed::another(why)
    }
}

impl From<Unsupported> for Failed {
    fn from(Unsupported(why): Unsupported) -> Self {
        Failed::another(why)
    }
}

/// What the guest has of an answer cannot be taken back, so there is no other try.
pub(super) fn broke_off(failed: Failed) -> Failed {
    match failed.next {
        Next::Stop(_) => failed,
        _ => {
            let error = LlmError::Unavailable(format!("the answer broke off: {}", failed.why));
            Failed { why: failed.why, next: Next::Stop(error) }
        }
    }
}

pub(super) fn broken_off(route: &Route, broken: Broken) -> Failed {
    match broken {
        Broken::Malformed(malformed) => malformed.into(),
        Broken::Refused(refusal) => refused(route, refusal, None),
    }
}

pub(super) fn failed_on_wire(route: &Route, protocol: &dyn Protocol, error: WireError) -> Failed {
    let again = |why: String| Failed { why, next: Next::Again { after: None } };
    match error {
        // Nobody follows: it could lead anywhere, and the key would go with it. What the next provider says of the request is
        // open.
        WireError::Status { status: status @ 300..=399, .. } => {
            Failed::another(format!("it answers from elsewhere ({status}), and redirects are not followed"))
        }
        WireError::Status { status, retry_after, body } => {
            refused(route, protocol.refusal(status, &body), Some((status, retry_after)))
        }
        WireError::Connect(why) | WireError::BrokeOff(why) => again(why),
        WireError::Forbidden => Failed::another("its address is not one of the public internet"),
        WireError::TimedOut { waiting_for: waiting_for @ "connect", after_ms } => {
            again(format!("timed out ({waiting_for}) after {after_ms} ms"))
        }
        // It was waited for long enough.
        WireError::TimedOut { waiting_for, after_ms } => {
            Failed::another(format!("timed out ({waiting_for}) after {after_ms} ms"))
        }
        WireError::TooLarge { bytes_max } => {
            Failed::another(format!("the answer is larger than the {bytes_max} bytes that are read"))
        }
        WireError::Request(why) => Failed::another(why),
    }
}

fn refused(route: &Route, refusal: Refusal, status: Option<(u16, Option<Duration>)>) -> Failed {
    let message = wire::redact(&refusal.message, route.provider.credentials.secrets());
    let (status, after) = status.map_or((String::new(), None), |(status, after)| (format!(" ({status})"), after));
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let why = |what: &str| format!("{what}{status}{said}");
    match refusal.why {
        Why::RateLimited => Failed { why: why("too many requests"), next: Next::Again { after } },
        Why::Server => Failed { why: why("the server failed"), next: Next::Again { after } },
        Why::ContextLength => {
            Failed { why: why("the request is longer than the model can read"), next: Next::LargerModel }
        }
        Why::Key => Failed::another(why("the key is not accepted")),
        Why::NotFound => Failed::another(why("there is no such model")),
        Why::Content => {
            let why = why("the content is not allowed");
            let error = LlmError::Refused(format!("{}: {why}", route.provider.name));
            Failed { why, next: Next::Stop(error) }
        }
        Why::Request => {
            let why = why("the request is not accepted");
            let error = LlmError::Refused(format!("{}: {why}", route.provider.name));
            Failed { why, next: Next::Stop(error) }
        }
    }
}
