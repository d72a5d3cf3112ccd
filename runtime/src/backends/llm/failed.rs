//! Why a try gave no answer, and what that means for the next.

use std::time::Duration;

use super::Credentials;
use super::config::Route;
use super::protocol::{Broken, Malformed, Protocol, Refusal, Unsupported, Why};
use super::wire::{self, WireError};
use crate::host_api::llm::LlmError;

/// A try that gave no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// A clause for the user: no key, no address.
    pub(super) why: String,
    /// The provider may have begun, and bill it.
    pub(super) begun: bool,
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
    /// The provider was not reached, or refused.
    pub(super) fn not_begun(why: impl Into<String>, next: Next) -> Self {
        Failed { why: why.into(), begun: false, next }
    }

    pub(super) fn another(why: impl Into<String>) -> Self {
        Failed { why: why.into(), begun: true, next: Next::Another }
    }
}

impl From<Malformed> for Failed {
    fn from(Malformed(why): Malformed) -> Self {
        Failed::another(why)
    }
}

impl From<Unsupported> for Failed {
    fn from(Unsupported(why): Unsupported) -> Self {
        Failed::not_begun(why, Next::Another)
    }
}

/// What the guest has of an answer cannot be taken back, so there is no other try.
pub(super) fn broke_off(failed: Failed) -> Failed {
    match failed.next {
        Next::Stop(_) => failed,
        _ => {
            let error = LlmError::Unavailable(format!("the answer broke off: {}", failed.why));
            Failed { next: Next::Stop(error), ..failed }
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
    let again = Next::Again { after: None };
    match error {
        // Nobody follows: it could lead anywhere, and the key would go with it. What the next provider says of the request is
        // open.
        WireError::Status { status: status @ 300..=399, .. } => {
            let why = format!("it answers from elsewhere ({status}), and redirects are not followed");
            Failed::not_begun(why, Next::Another)
        }
        WireError::Status { status, retry_after, body } => {
            refused(route, protocol.refusal(status, &body), Some((status, retry_after)))
        }
        WireError::Connect(why) => Failed::not_begun(why, again),
        WireError::BrokeOff(why) => Failed { why, begun: true, next: again },
        WireError::Forbidden => Failed::not_begun("its address is not one of the public internet", Next::Another),
        WireError::TimedOut { waiting_for: waiting_for @ "connect", after_ms } => {
            Failed::not_begun(format!("timed out ({waiting_for}) after {after_ms} ms"), again)
        }
        // It was waited for long enough.
        WireError::TimedOut { waiting_for, after_ms } => {
            Failed::another(format!("timed out ({waiting_for}) after {after_ms} ms"))
        }
        WireError::TooLarge { bytes_max } => {
            Failed::another(format!("the answer is larger than the {bytes_max} bytes that are read"))
        }
        WireError::Request(why) => Failed::not_begun(why, Next::Another),
    }
}

fn refused(route: &Route, refusal: Refusal, status: Option<(u16, Option<Duration>)>) -> Failed {
    let message = wire::redact(&refusal.message, route.provider.credentials.secrets());
    let (status, after) = status.map_or((String::new(), None), |(status, after)| (format!(" ({status})"), after));
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let why = |what: &str| format!("{what}{status}{said}");
    // Another provider would refuse it alike.
    let stop = |what: &str| {
        let error = LlmError::Refused(format!("{}: {}", route.provider.name, why(what)));
        Failed::not_begun(why(what), Next::Stop(error))
    };
    match refusal.why {
        Why::RateLimited => Failed::not_begun(why("too many requests"), Next::Again { after }),
        Why::Server => Failed { why: why("the server failed"), begun: true, next: Next::Again { after } },
        Why::ContextLength => {
            Failed::not_begun(why("the request is longer than the model can read"), Next::LargerModel)
        }
        Why::Key if matches!(route.provider.credentials, Credentials::None) => {
            Failed::not_begun(why("it wants a key, and there is none"), Next::Another)
        }
        Why::Key => Failed::not_begun(why("the key is not accepted"), Next::Another),
        Why::NotFound => Failed::not_begun(why("there is no such model or address"), Next::Another),
        Why::Unsupported => Failed::not_begun(why("it does not do what is asked"), Next::Another),
        Why::Content => stop("the content is not allowed"),
        Why::Request => stop("the request is not accepted"),
    }
}
