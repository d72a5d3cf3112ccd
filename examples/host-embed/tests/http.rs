//! The server, driven by plain HTTP as its clients do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]

use std::future::IntoFuture as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use holm_runtime::{CompileIn, CompilerCommand};
use serde_json::{Value, json};

const NOTE: &str = include_str!("../note.wat");

/// Computes until its fuel runs out.
const SPIN: &str = r#"(component
    (core module $M
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "run") (param i32 i32) (result i32) (loop (br 0)) unreachable))
    (core instance $m (instantiate $M))
    (func (export "run") (param "input" string) (result (result string (error string)))
        (canon lift (core func $m "run") (memory $m "memory") (realloc (func $m "realloc")))))"#;

/// These tests are another program, which cannot compile for the server.
fn compile_in() -> CompileIn {
    let program = env!("CARGO_BIN_EXE_host-embed").into();
    CompileIn::Child(CompilerCommand { program, args: vec!["compile-worker".into()] })
}

struct Server {
    address: SocketAddr,
    _threads: tokio::runtime::Runtime,
}

impl Server {
    /// A server of the test's own, with the workloads `note` and `spin`.
    fn start() -> Self {
        let threads = tokio::runtime::Runtime::new().unwrap();
        let listener = threads.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        threads.spawn(axum::serve(listener, host_embed::router(compile_in()).unwrap()).into_future());
        let server = Server { address, _threads: threads };
        for (name, workload) in [("note", NOTE), ("spin", SPIN)] {
            let (status, digest) = server.call("PUT", &format!("/workloads/{name}"), workload);
            assert!(status == 201 && digest.starts_with("sha256:"), "{status} {digest}");
        }
        server
    }

    fn call(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> (u16, String) {
        let mut answer = String::new();
        send(self.address, method, path, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn run(&self, user: &str, workload: &str, input: &str) -> (u16, Value) {
        let (status, record) = self.call("POST", &format!("/users/{user}/executions/{workload}"), input);
        (status, serde_json::from_str(&record).unwrap())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until as many executions are under way, and gives them.
    fn wait_for_live(&self, count: usize) -> Value {
        let begun = Instant::now();
        loop {
            let live = self.get("/live");
            if live.as_array().unwrap().len() == count {
                return live;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{live}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn send(address: SocketAddr, method: &str, path: &str, body: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.as_ref();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
        .unwrap();
    stream.write_all(body).unwrap();
    stream
}

#[test]
fn two_users_at_once_see_their_own_notes_only() {
    let server = Server::start();
    thread::scope(|scope| {
        for user in ["alice", "bob"] {
            let server = &server;
            scope.spawn(move || {
                let mut expected = String::new();
                for round in 0..10 {
                    expected += &format!("{user} {round}\n");
                    let (status, record) = server.run(user, "note", &format!("{user} {round}"));
                    assert_eq!((status, &record["outcome"]["kind"]), (200, &json!("completed")), "{record}");
                    assert_eq!((&record["user"], &record["output"]), (&json!(user), &json!(expected)));
                }
            });
        }
    });
    for user in ["alice", "bob"] {
        let expected: Vec<_> = (0..10).map(|round| format!("{user} {round}")).collect();
        assert_eq!(server.get(&format!("/users/{user}/notes")), json!(expected));
    }
    assert_eq!(server.get("/users/carol/notes"), json!([]));
}

#[test]
fn a_workload_that_asks_models_runs() {
    let server = Server::start();
    let agents = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../prebuilt/guest-agents.wasm")).unwrap();
    assert_eq!(server.call("PUT", "/workloads/agents", agents).0, 201);
    let (status, record) = server.run("alice", "agents", "a better bicycle bell");
    assert_eq!((status, &record["outcome"]["kind"]), (200, &json!("completed")), "{record}");
    assert!(record["usage"]["llm"]["requests"].as_u64() >= Some(5), "{record}");
}

#[test]
fn twenty_users_at_once_keep_what_completed_and_nothing_else() {
    let server = Server::start();
    thread::scope(|scope| {
        for user in 0..20 {
            let server = &server;
            scope.spawn(move || {
                for input in ["first", "!trapped", "second"] {
                    let (status, record) = server.run(&format!("user-{user}"), "note", &format!("{input} of {user}"));
                    assert_eq!(status, if input.starts_with('!') { 422 } else { 200 }, "{record}");
                }
            });
        }
    });
    for user in 0..20 {
        let expected = json!([format!("first of {user}"), format!("second of {user}")]);
        assert_eq!(server.get(&format!("/users/user-{user}/notes")), expected);
    }
    assert_eq!(server.get("/live"), json!([]));
}

#[test]
fn a_workload_that_traps_leaves_no_note() {
    let server = Server::start();
    let (status, record) = server.run("alice", "note", "!lost");
    assert_eq!((status, &record["outcome"]["kind"]), (422, &json!("trapped")), "{record}");
    assert_eq!(server.get("/users/alice/notes"), json!([]));
    assert_eq!(server.run("alice", "note", "kept").1["output"], "kept\n");
}

#[test]
fn what_the_capability_denies_the_workload_sees_as_a_value() {
    let server = Server::start();
    let (status, record) = server.run("alice", "note", "");
    assert_eq!((status, &record["outcome"]["kind"]), (422, &json!("guest_error")), "{record}");
    assert_eq!(record["error"], "invalid: a note has 1 to 4096 bytes, not 0");
    for _ in 0..100 {
        assert_eq!(server.run("alice", "note", "x").0, 200);
    }
    let (_, record) = server.run("alice", "note", "x");
    assert_eq!(record["error"], "unavailable: there is room for 100 notes, and all of it is taken");
    assert_eq!(server.run("bob", "note", "x").0, 200);
}

#[test]
fn refusals_say_why_in_a_sentence() {
    let server = Server::start();
    let (status, sentence) = server.call("PUT", "/workloads/bad", "no workload");
    assert!(status == 422 && sentence.starts_with("not WebAssembly: "), "{status} {sentence}");
    assert_eq!(server.call("PUT", "/workloads/.bad", NOTE).0, 400);
    assert_eq!(server.call("POST", "/users/alice/executions/other", "").0, 404);
    assert_eq!(server.call("POST", "/users/alice/executions/note", "x".repeat(1 << 21)).0, 413);

    let import = r#"(import "wasi:sockets/network@0.2.0" (instance))"#;
    let (status, _) =
        server.call("PUT", "/workloads/sockets", SPIN.replacen("(component", &format!("(component {import}"), 1));
    assert_eq!(status, 201);
    let (status, record) = server.run("alice", "sockets", "");
    assert_eq!((status, &record["outcome"]["kind"]), (403, &json!("refused")), "{record}");
}

#[test]
fn a_workload_that_spins_ends_at_its_budget_while_a_neighbour_runs() {
    let server = Server::start();
    thread::scope(|scope| {
        let spinning = scope.spawn(|| server.run("mallory", "spin", ""));
        assert_eq!(server.wait_for_live(1)[0]["user"], "mallory");
        assert_eq!(server.run("alice", "note", "undisturbed").1["output"], "undisturbed\n");
        let (status, record) = spinning.join().unwrap();
        assert_eq!((status, &record["outcome"]["budget"]), (422, &json!("fuel")), "{record}");
    });
}

#[test]
fn a_client_that_goes_away_takes_its_execution_with_it() {
    let server = Server::start();
    let client = send(server.address, "POST", "/users/mallory/executions/spin", "");
    let gone = server.wait_for_live(1)[0]["execution"].clone();
    drop(client);
    server.wait_for_live(0);
    assert!(gone.is_string());
}

#[test]
#[cfg(unix)]
fn the_program_prints_its_address_and_ends_at_ctrl_c() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_host-embed")).arg("0").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().parse().unwrap();
    let mut answer = String::new();
    send(address, "GET", "/live", "").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"), "{answer}");
    assert!(Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap().success());
    assert!(program.wait().unwrap().success());
}
