//! What only AWS does: requests are signed, and answers come in frames.

use std::time::SystemTime;

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4;
use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::event_stream::Message;
use bytes::BytesMut;
use reqwest::Url;
use serde::Serialize;

use super::{Event, WireError};

/// What all models are signed for, whatever host they are at.
const SERVICE: &str = "bedrock";

/// Lengths of the frame and of its headers, and their checksum.
const PRELUDE_BYTES: usize = 12;

/// Most bytes of a frame's headers. They hold a few short names; but the shortest take many times their bytes once they
/// are read.
const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// Who signs. Nothing of it may show, but for the id.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) region: &'a str,
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a str,
    pub(super) session_token: Option<&'a str>,
}

/// The headers that a POST with this body needs at this address, at this time. AWS takes them for some minutes. They
/// are to be sent with the address as it is: its path is signed letter by letter.
pub(super) fn sign(
    signer: Signer<'_>,
    url: &Url,
    body: &[u8],
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, WireError> {
    // What goes wrong may quote what is secret, so it is not passed on.
    let failed = || WireError::Request("it cannot be signed for AWS with these credentials".to_owned());
    let identity: Identity = AwsCredentials::new(
        signer.access_key_id,
        signer.secret_access_key,
        signer.session_token.map(str::to_owned),
        None,
        "holm",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signer.region)
        .name(SERVICE)
        .time(now)
        // AWS wants a path's percent signs encoded once more than they are sent, as these settings do by default.
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| failed())?
        .into();
    let host = url.host_str().ok_or_else(failed)?;
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let headers = [("host", host.as_str())].into_iter();
    let request =
        SignableRequest::new("POST", url.as_str(), headers, SignableBody::Bytes(body)).map_err(|_| failed())?;
    let (instructions, _) = sign_request(request, &params).map_err(|_| failed())?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
}

/// Reads AWS's event stream, however it is cut into pieces.
pub(super) struct AwsFrames {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl AwsFrames {
    /// A frame with more bytes than this is not read.
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        AwsFrames { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// More bytes came. All events are to be taken before the next ones are given.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, if it is there already. After an error there is no other: where the next frame begins is not
    /// known.
    pub(super) fn next(&mut self) -> Result<Option<Event>, WireError> {
        let Some((frame_bytes, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let frame_bytes = length(*frame_bytes);
        if frame_bytes > self.frame_bytes_max {
            return Err(WireError::TooLarge { bytes_max: self.frame_bytes_max });
        }
        let Some((headers_bytes, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        if frame_bytes < PRELUDE_BYTES || length(*headers_bytes) > HEADERS_BYTES_MAX {
            return Err(broken());
        }
        if self.buffer.len() < frame_bytes {
            return Ok(None);
        }
        let frame = self.buffer.split_to(frame_bytes).freeze();
        event(&read_message_from(frame).map_err(|_| broken())?).map(Some)
    }

    /// There are no more bytes.
    pub(super) fn finish(&self) -> Result<(), WireError> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => Err(WireError::BrokeOff("the answer ended within an event".to_owned())),
        }
    }
}

fn length(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

fn broken() -> WireError {
    WireError::BrokeOff("the answer is damaged, or not in AWS's frames".to_owned())
}

/// An event, or an exception under its own name. An error that the service has no name for is one of the server.
fn event(message: &Message) -> Result<Event, WireError> {
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
        header.value().as_string().ok().map(|value| value.as_str())
    };
    let named =
        |name: Option<&str>| Ok(Event { name: name.ok_or_else(broken)?.to_owned(), data: message.payload().to_vec() });
    match header(":message-type") {
        Some("event") => named(header(":event-type")),
        Some("exception") => named(header(":exception-type")),
        Some("error") => {
            let code = header(":error-code").filter(|code| code.ends_with("Exception"));
            let said = Said { message: header(":error-message").unwrap_or_default() };
            let data = serde_json::to_vec(&said).map_err(|_| broken())?;
            Ok(Event { name: code.unwrap_or("internalServerException").to_owned(), data })
        }
        _ => Err(broken()),
    }
}

/// What exceptions have as their payload.
#[derive(Serialize)]
struct Said<'a> {
    message: &'a str,
}

#[cfg(test)]
mod tests;
