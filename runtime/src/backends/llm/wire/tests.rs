//! Against servers that do what servers do, and what they should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test should stop there"
)]

mod hostile;
mod sound;
mod tls;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::backends::llm::{Addresses, Credentials, ProviderKind, Secret};

/// No test waits so long but for a bug.
const LONG: Duration = Duration::from_secs(30);

/// A server that does this with each connection.
async fn serve<F, S>(serve_one: F) -> SocketAddr
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_one(stream));
        }
    });
    address
}

/// A server that answers each connection's first request with these bytes and closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = Arc::new(answer.into());
    serve(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            request_head(&mut stream).await;
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await
}

/// Reads a request and gives its head, in small letters. Empty if the connection was closed.
async fn request_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head_end) = head_end {
            let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= head_end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return head;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}

fn wire() -> Wire {
    Wire::new(
        Limits {
            answer_bytes_max: 1 << 20,
            vectors_bytes_max: 1 << 20,
            event_bytes_max: 64 << 10,
            events_bytes_max: 1 << 20,
        },
        b"",
    )
    .unwrap()
}

fn provider(url: &str) -> Provider {
    Provider {
        name: "one".parse().unwrap(),
        kind: ProviderKind::OpenAi,
        url: url.parse().unwrap(),
        credentials: Credentials::Key(Secret::new("sk-one")),
        model: None,
        models: Vec::new(),
        addresses: Addresses::Any,
    }
}

fn at(address: SocketAddr) -> Provider {
    provider(&format!("http://{address}/v1"))
}

fn outgoing(framing: Framing) -> Outgoing {
    Outgoing { path: "/chat".to_owned(), headers: &[("x-of-protocol", "yes")], body: b"{\"a\":1}".to_vec(), framing }
}

/// Times that pass only where something hangs for ever.
const PATIENT: Timeouts = Timeouts { connect_ms: 30_000, first_token_ms: 30_000, answer_ms: 30_000 };

/// Times for what hangs before anything came.
const HASTY: Timeouts = Timeouts { connect_ms: 30_000, first_token_ms: 300, answer_ms: 30_000 };

/// Times for what hangs afterwards.
const HASTY_TO_END: Timeouts = Timeouts { connect_ms: 30_000, first_token_ms: 30_000, answer_ms: 800 };

async fn whole(wire: &Wire, provider: &Provider, timeouts: Timeouts) -> Result<Vec<u8>, WireError> {
    let call = Call { provider, outgoing: outgoing(Framing::Whole), timeouts };
    tokio::time::timeout(LONG, wire.whole(call)).await.expect("it hangs")
}

async fn open(wire: &Wire, provider: &Provider, timeouts: Timeouts) -> Result<Events, WireError> {
    let call = Call { provider, outgoing: outgoing(Framing::ServerSentEvents), timeouts };
    tokio::time::timeout(LONG, wire.open(call)).await.expect("it hangs")
}

/// All the events' data, and how it ended.
async fn all(wire: &Wire, provider: &Provider, timeouts: Timeouts) -> (Vec<String>, Result<(), WireError>) {
    let mut data = Vec::new();
    let mut events = match open(wire, provider, timeouts).await {
        Ok(events) => events,
        Err(error) => return (data, Err(error)),
    };
    loop {
        match tokio::time::timeout(LONG, events.next()).await.expect("it hangs") {
            Ok(Some(event)) => data.push(String::from_utf8(event.data).unwrap()),
            Ok(None) => return (data, Ok(())),
            Err(error) => {
                assert!(matches!(events.next().await, Ok(None)), "after an error there is nothing");
                return (data, Err(error));
            }
        }
    }
}

#[track_caller]
fn assert_broke_off<T: std::fmt::Debug>(result: Result<T, WireError>, expected: &str) {
    assert!(matches!(&result, Err(WireError::BrokeOff(why)) if why == expected), "{result:?}");
}

#[track_caller]
fn assert_timed_out<T: std::fmt::Debug>(result: Result<T, WireError>, expected: &str) {
    assert!(matches!(&result, Err(WireError::TimedOut { waiting_for, .. }) if *waiting_for == expected), "{result:?}");
}

#[track_caller]
fn assert_too_large<T: std::fmt::Debug>(result: Result<T, WireError>, expected: usize) {
    assert!(matches!(&result, Err(WireError::TooLarge { bytes_max }) if *bytes_max == expected), "{result:?}");
}
