//! The providers' protocols against servers that nobody here wrote. `tests/peers/run.sh` installs them and runs this.

mod aimock;
mod bedrock;
mod faults;
mod litellm;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use holm_host_api::llm::{Delta, LlmBackend as _, LlmError, Message, Request, Response, Role, Router, ToolCall};
use holm_host_api::{Grants, Scope};
use holm_runtime::backends::llm::{Addresses, Credentials, Secret};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::support::{name, repository};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A server in a process of its own, which ends with this.
struct Peer {
    process: Child,
    port: u16,
    home: TempDir,
}

impl Peer {
    /// Starts what `command` makes of a port, with nothing in its environment that is not given there.
    fn start(ready: &str, command: impl Fn(u16) -> Command) -> Self {
        let home = TempDir::new().unwrap();
        let log = || std::fs::File::options().create(true).append(true).open(home.path().join("log")).unwrap();
        // Somebody may take the port before the server does.
        for _ in 0..3 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut command = command(port);
            command.env("HOME", home.path()).current_dir(home.path());
            command.stdin(Stdio::null()).stdout(log()).stderr(log());
            let mut process = command.spawn().unwrap_or_else(|error| panic!("run tests/peers/install.sh: {error}"));
            let begun = Instant::now();
            while process.try_wait().unwrap().is_none() && begun.elapsed() < READY_WITHIN {
                if get(port, ready).is_some() {
                    return Peer { process, port, home };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("it does not start: {}", std::fs::read_to_string(home.path().join("log")).unwrap());
    }

    /// A provider whose servers are this one.
    fn provider(&self, called: &str, kind: ProviderKind, path: &str, credentials: Credentials) -> Provider {
        Provider {
            kind,
            url: format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap(),
            credentials,
            model: Some("the-model".to_owned()),
            addresses: Addresses::Any,
            ..Provider::named(name(called))
        }
    }

    fn get(&self, path: &str) -> String {
        get(self.port, path).unwrap_or_else(|| panic!("{path}: {}", self.log()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program under `target/peers`, with an environment that has nothing of ours but where programs are.
fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn installed(path: &str) -> String {
    repository().join("target/peers").join(path).to_str().unwrap().to_owned()
}

fn ours(path: &str) -> String {
    repository().join("tests/peers").join(path).to_str().unwrap().to_owned()
}

/// What a server on this machine says at a path, if it is there and does not refuse.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    // Answers of this version are in one piece, and end with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// The router of one execution, as the runtime opens it.
fn router(settings: LlmSettings) -> Arc<dyn Router> {
    let started = Instant::now();
    let scope = Scope {
        execution: uuid::Uuid::now_v7(),
        user: name("alice"),
        session: None,
        program: None,
        profile: None,
        workload: "sha256:00".into(),
        input_bytes: 0,
        grants: Arc::new(Grants::all()),
        config: Arc::default(),
        started,
        deadline: started + Duration::from_secs(600),
        cancellation: Default::default(),
    };
    Providers::new(Arc::new(RouterConfig::new(settings).unwrap())).unwrap().open(&Arc::new(scope)).unwrap()
}

/// A request that says this.
fn says(prompt: &str) -> Request {
    Request { messages: vec![Message::text(Role::User, prompt)], max_tokens: Some(300), ..Request::default() }
}

/// An answer that came in pieces.
#[derive(Debug)]
struct Streamed {
    texts: Vec<String>,
    calls: Vec<ToolCall>,
    response: Response,
}

async fn stream(router: &Arc<dyn Router>, request: Request) -> Result<Streamed, LlmError> {
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    let mut deltas = Arc::clone(router).stream(request);
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Text(text) => texts.push(text),
            Delta::ToolCall(call) => calls.push(call),
            Delta::Done(response) => return Ok(Streamed { texts, calls, response }),
        }
    }
    panic!("a stream ends with its answer or with an error");
}

/// What the tries of a request failed with.
fn failures(tries: &[holm_host_api::llm::Attempt]) -> Vec<&str> {
    tries.iter().filter_map(|attempt| attempt.failure.as_deref()).collect()
}

/// Whether six letters of this stand anywhere in it.
fn shows(text: &str, secret: &str) -> bool {
    (0..secret.len() - 5).any(|at| text.contains(&secret[at..at + 6]))
}
