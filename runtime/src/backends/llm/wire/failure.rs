//! What went wrong on the wire, in words without addresses: the errors of the libraries name hosts and ports, so none of
//! their text is shown.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::WireError;
use super::addresses::NotPublic;
use crate::backends::llm::Timeouts;

/// A server that asks for more patience than this is given no more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// There is no head of an answer.
pub(super) fn of_request(error: &reqwest::Error, timeouts: Timeouts) -> WireError {
    if find::<NotPublic>(error).is_some() {
        return WireError::Forbidden;
    }
    if error.is_builder() {
        return WireError::Request("its address cannot be asked".to_owned());
    }
    if !error.is_connect() {
        return WireError::BrokeOff(break_clause(error).to_owned());
    }
    if error.is_timeout() {
        return WireError::TimedOut { waiting_for: "connect", after_ms: timeouts.connect_ms };
    }
    WireError::Connect(connect_clause(error).to_owned())
}

/// The answer broke off.
pub(super) fn of_body(error: &reqwest::Error) -> WireError {
    WireError::BrokeOff(break_clause(error).to_owned())
}

fn connect_clause(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        return "its name cannot be resolved";
    }
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            return "its certificate is not one that is trusted for its name";
        }
        Some(rustls::Error::InvalidMessage(_)) => return "it does not answer in TLS",
        Some(_) => return "no safe connection can be agreed on",
        None => {}
    }
    match io_kind(error) {
        Some(ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "it cannot be reached",
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof) => {
            "the connection was closed before it was made"
        }
        _ => "it cannot be connected to",
    }
}

fn break_clause(error: &reqwest::Error) -> &'static str {
    match io_kind(error) {
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe) => {
            "the connection was reset"
        }
        Some(ErrorKind::TimedOut) => "nothing came over the connection any more",
        Some(ErrorKind::UnexpectedEof) => "the connection was closed before the answer's end",
        Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => "the answer is not one of HTTP",
        Some(_) => "the connection broke",
        None if mentions(error, "connection closed before message completed") => {
            "the connection was closed before the answer's end"
        }
        None if mentions(error, "message head is too large") => "the answer's head is too large",
        // Left over are those that say what about the answer is wrong.
        None => "the answer is not one of HTTP",
    }
}

/// The first error of this type among an error and what caused it.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What kind of I/O error is at the root. Those that only carry another are of no kind.
fn io_kind(error: &reqwest::Error) -> Option<ErrorKind> {
    causes(error)
        .filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()))
        .max_by_key(|&kind| kind != ErrorKind::Other)
}

/// Hyper tells some errors apart by their words alone.
fn mentions(error: &reqwest::Error, words: &str) -> bool {
    causes(error).any(|cause| cause.to_string().contains(words))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        // An I/O error passes over the error in it when it is asked for its source.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// When the server says that it can be asked again: in milliseconds, as OpenAI and Azure do, in seconds, or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok();
    let milliseconds =
        ["retry-after-ms", "x-ms-retry-after-ms"].into_iter().find_map(|name| text(name).and_then(number));
    let seconds = milliseconds.map(|ms| ms / 1_000.0).or_else(|| text(RETRY_AFTER.as_str()).and_then(number));
    let after = match seconds {
        // A number that is none, or less than nothing, says nothing.
        Some(seconds) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX),
        Some(_) => return None,
        None => {
            let date = httpdate::parse_http_date(text(RETRY_AFTER.as_str())?).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
        }
    };
    Some(after.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
    }

    #[test]
    fn when_to_ask_again_is_read_in_all_its_forms() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (headers, expected) in [
            (&[][..], None),
            (&[("retry-after", "7")], ms(7_000)),
            (&[("retry-after", " 1.5 ")], ms(1_500)),
            (&[("retry-after", "0")], ms(0)),
            (&[("retry-after", "86400")], ms(3_600_000)),
            (&[("retry-after", "1e300")], ms(3_600_000)),
            (&[("retry-after", "inf")], ms(3_600_000)),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], ms(0)),
            (&[("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT")], ms(3_600_000)),
            (&[("retry-after-ms", "250")], ms(250)),
            (&[("retry-after-ms", "250.5"), ("retry-after", "1")], ms(250).map(|d| d + Duration::from_micros(500))),
            (&[("retry-after-ms", "x"), ("retry-after", "2")], ms(2_000)),
            (&[("x-ms-retry-after-ms", "30")], ms(30)),
        ] {
            assert_eq!(of(headers), expected, "{headers:?}");
        }
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
        let after = of(&[("retry-after", &soon)]).unwrap();
        assert!(after > Duration::from_secs(300) && after <= Duration::from_secs(600), "{after:?}");
    }
}
