//! A server that answers with bytes, whatever they are, and a host that asks it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::Execution;
use holm_runtime::backends::llm::{ConfigsByUser, Timeouts};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::Server;
use super::*;
use crate::support::{Host, name};

/// The server, on a thread of its own.
pub struct Raw {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    threads: Option<tokio::runtime::Runtime>,
}

impl Raw {
    /// Reads the request of each connection, and then does this with it.
    pub fn start<F, S>(serve_one: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let (count, serve_one) = (Arc::clone(&asked), Arc::new(serve_one));
        threads.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, serve_one) = (Arc::clone(&count), Arc::clone(&serve_one));
                tokio::spawn(async move {
                    if read_request(&mut stream).await {
                        count.fetch_add(1, Ordering::Relaxed);
                        serve_one(stream).await;
                    }
                });
            }
        });
        Raw { address, asked, threads: Some(threads) }
    }

    /// Sends this and closes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Arc::new(bytes.into());
        Raw::start(move |mut stream| {
            let bytes = Arc::clone(&bytes);
            async move {
                // Who has enough hangs up.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
    }

    /// Sends a head, and then this over and over, up to a gigabyte: each time after a wait.
    pub fn repeating(head: &'static str, again: impl Into<Vec<u8>>, every_ms: u64) -> Self {
        let again = Arc::new(again.into());
        Raw::start(move |mut stream| {
            let again = Arc::clone(&again);
            async move {
                let mut left = 1_usize << 30;
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() && left > 0 {
                    if every_ms > 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(every_ms)).await;
                    }
                    sent = stream.write_all(&again).await;
                    left = left.saturating_sub(again.len());
                }
            }
        })
    }

    pub fn provider(&self, kind: ProviderKind) -> Provider {
        let url = format!("http://{}", self.address).parse().unwrap();
        Provider { kind, url, model: Some("m".to_owned()), ..Provider::named(name("hostile")) }
    }

    /// Requests that came so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Raw {
    /// In a test nothing may block.
    fn drop(&mut self) {
        self.threads.take().unwrap().shutdown_background();
    }
}

/// Whether a whole request came.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= head_end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return true;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

/// An answer of HTTP with this body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What hangs is left soon.
pub const HASTY: Timeouts = Timeouts { connect_ms: 5_000, first_token_ms: 400, answer_ms: 800 };

/// Runs an action of alice's, whose provider is this one, beside users whose provider is sound: they complete, and
/// nothing is left.
pub async fn act_at(provider: Provider, timeouts: Timeouts, action: Value) -> Execution {
    let server = Server::start();
    let sound = settings(vec![server.provider("sound", ProviderKind::OpenAi, "")]);
    let configs = Arc::new(ConfigsByUser::new(RouterConfig::new(sound).unwrap()));
    let hostile = LlmSettings { timeouts, ..settings(vec![provider]) };
    configs.set(name("alice"), RouterConfig::new(hostile).unwrap());
    let host = Host::with(|builder| builder.llm(Providers::new(configs).unwrap()));
    let mut sound = host.request(ask("echo beside"));
    sound.user = name("bob");
    let hostile = host.request(action).budget(Budget::default().with(BudgetName::WallMs, 25_000));
    let (ended, sound) = tokio::join!(host.beside_a_neighbour(hostile), host.runtime.execute(sound));
    assert_eq!(sound.record.outcome, Outcome::Completed, "{:?}", sound.record.error);
    ended
}

/// It ended as the guest's own error, which says this and is short; what it is charged is no more than the input and a
/// little of an answer.
#[track_caller]
pub fn assert_one_error(ended: &Execution, says: &str) {
    let error = ended.record.error.as_deref().unwrap_or_default();
    assert_eq!(ended.record.outcome, Outcome::GuestError, "{error}");
    assert!(error.contains(says) && error.len() < 2_000, "it does not say {says:?}: {error}");
    let tokens = ended.record.usage.get("llm_tokens").unwrap();
    assert!(tokens < 100, "{tokens} tokens for nothing");
}
