//! Guests in the text format, with the host functions that they attack.

use std::path::Path;
use std::sync::LazyLock;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::support::repository;

/// Host functions as a core module imports them: a name for the text, the interface, the function, its core type.
const HOST: &[(&str, &str, &str, &str)] = &[
    ("emit", EVENTS, "emit", "(param i32 i32 i32 i32 i32)"),
    ("progress", EVENTS, "progress", "(param i64 i32 i64 i32 i32 i32)"),
    ("log", EVENTS, "log", "(param i32 i32 i32 i32)"),
    ("identity", EXECUTION, "get-identity", "(param i32)"),
    ("remaining", EXECUTION, "get-remaining", "(param i32)"),
    ("config", EXECUTION, "get-config", "(param i32 i32 i32)"),
    ("cancelled", EXECUTION, "is-cancelled", "(result i32)"),
    ("start", TRACE, "start", "(param i32 i32 i32 i32 i32)"),
    ("child", TRACE, "[method]call.child", "(param i32 i32 i32 i32 i32 i32)"),
    ("attribute", TRACE, "[method]call.set-attribute", "(param i32 i32 i32 i32 i32 i32)"),
    ("finish", TRACE, "[method]call.finish", "(param i32 i32 i32 i32 i32)"),
    ("reference", TRACE, "[method]call.reference", "(param i32 i32)"),
    ("drop-call", TRACE, "[resource-drop]call", "(param i32)"),
    ("publish", TRACE, "publish", "(param i32 i32 i32 i32 i32)"),
    ("resolve", TRACE, "resolve", "(param i32 i32 i32)"),
    ("feedback", TRACE, "feedback", "(param i32 i32 i32 i32 i32 i32 i32)"),
    ("complete", LLM, "complete", "(param i32 i32)"),
    ("submit", LLM, "submit", "(param i32 i32)"),
    ("stream", LLM, "start-stream", "(param i32 i32)"),
    ("wait", LLM, "wait", "(param i32 i32 i32 i64 i32)"),
    ("embed", LLM, "embed", "(param i32 i32 i32 i32 i32 i32)"),
    ("get", LLM, "[method]pending.get", "(param i32 i32)"),
    ("next", LLM, "[method]completion.next", "(param i32 i32)"),
    ("drop-pending", LLM, "[resource-drop]pending", "(param i32)"),
    ("drop-completion", LLM, "[resource-drop]completion", "(param i32)"),
    ("now", CLOCK, "now", "(result i64)"),
    ("timer", CLOCK, "subscribe-duration", "(param i64) (result i32)"),
    ("poll", POLL, "poll", "(param i32 i32 i32)"),
    ("block", POLL, "[method]pollable.block", "(param i32)"),
    ("ready", POLL, "[method]pollable.ready", "(param i32) (result i32)"),
    ("drop-pollable", POLL, "[resource-drop]pollable", "(param i32)"),
    ("random", RANDOM, "get-random-bytes", "(param i64 i32)"),
    ("random-u64", RANDOM, "get-random-u64", "(result i64)"),
    ("stdout", "wasi:cli/stdout@0.2.12", "get-stdout", "(result i32)"),
    ("stdin", "wasi:cli/stdin@0.2.12", "get-stdin", "(result i32)"),
    ("check-write", STREAMS, "[method]output-stream.check-write", "(param i32 i32)"),
    ("write", STREAMS, "[method]output-stream.write", "(param i32 i32 i32 i32)"),
    ("write-flush", STREAMS, "[method]output-stream.blocking-write-and-flush", "(param i32 i32 i32 i32)"),
    ("write-zeroes", STREAMS, "[method]output-stream.write-zeroes", "(param i32 i64 i32)"),
    ("subscribe", STREAMS, "[method]output-stream.subscribe", "(param i32) (result i32)"),
    ("read", STREAMS, "[method]input-stream.read", "(param i32 i64 i32)"),
    ("drop-output", STREAMS, "[resource-drop]output-stream", "(param i32)"),
    ("drop-input", STREAMS, "[resource-drop]input-stream", "(param i32)"),
    ("fault", "test:faults/faults@0.1.0", "fault", "(param i32)"),
    ("fault-later", "test:faults/faults@0.1.0", "later", "(param i32)"),
];

const EVENTS: &str = "holm:host/events@0.1.0";
const EXECUTION: &str = "holm:host/execution@0.1.0";
const TRACE: &str = "holm:host/trace@0.1.0";
const LLM: &str = "holm:host/llm@0.1.0";
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";
const POLL: &str = "wasi:io/poll@0.2.12";
const RANDOM: &str = "wasi:random/random@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// What of WASI the guests use, and the capability of the tests that panics.
const PACKAGES: &[&str] = &[
    "package wasi:io@0.2.12;
     interface poll {
       resource pollable { ready: func() -> bool; block: func(); }
       poll: func(in: list<borrow<pollable>>) -> list<u32>;
     }
     interface error { resource error; }
     interface streams {
       use error.{error};
       use poll.{pollable};
       variant stream-error { last-operation-failed(error), closed }
       resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
       resource output-stream {
         check-write: func() -> result<u64, stream-error>;
         write: func(contents: list<u8>) -> result<_, stream-error>;
         blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
         write-zeroes: func(len: u64) -> result<_, stream-error>;
         subscribe: func() -> pollable;
       }
     }",
    "package wasi:clocks@0.2.12;
     interface monotonic-clock {
       use wasi:io/poll@0.2.12.{pollable};
       now: func() -> u64;
       subscribe-duration: func(when: u64) -> pollable;
     }",
    "package wasi:random@0.2.12;
     interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }",
    "package wasi:cli@0.2.12;
     interface stdout { use wasi:io/streams@0.2.12.{output-stream}; get-stdout: func() -> output-stream; }
     interface stdin { use wasi:io/streams@0.2.12.{input-stream}; get-stdin: func() -> input-stream; }",
    "package test:faults@0.1.0;
     interface faults { fault: func(which: u32); later: func(which: u32); }",
    "package test:security;
     world guest {
       include holm:host/workload@0.1.0;
       import wasi:clocks/monotonic-clock@0.2.12;
       import wasi:random/random@0.2.12;
       import wasi:cli/stdout@0.2.12;
       import wasi:cli/stdin@0.2.12;
       import test:faults/faults@0.1.0;
     }",
];

static WORLD: LazyLock<(Resolve, WorldId)> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(&repository().join("host-api/wit"))).unwrap();
    let packages: Vec<_> = PACKAGES.iter().map(|text| resolve.push_source("guest.wit", text).unwrap()).collect();
    let world = resolve.select_world(&packages[packages.len() - 1..], Some("guest")).unwrap();
    (resolve, world)
});

/// A core module that becomes a workload.
pub struct Guest {
    imports: String,
    pages: u32,
    more: String,
    realloc: String,
    body: String,
    post_return: Option<String>,
}

impl Guest {
    /// Does this with these host functions, then returns its input. Where it has a result to be written for it, that
    /// may be at 16; strings that are handed to it come from 64 KiB on.
    pub fn new(imports: &[&str], body: impl Into<String>) -> Self {
        let import = |name: &&str| {
            let (name, interface, function, core) = HOST.iter().find(|(known, ..)| known == name).unwrap();
            format!("(import \"{interface}\" \"{function}\" (func ${name} {core}))\n")
        };
        let imports = imports.iter().map(import).collect();
        let (more, realloc) = (String::new(), String::new());
        Guest { imports, pages: 2, more, realloc, body: body.into(), post_return: None }
    }

    /// Does this over and over with these host functions.
    pub fn endless(imports: &[&str], body: &str) -> Self {
        Guest::new(imports, format!("(loop $for_ever {body} (br $for_ever))"))
    }

    /// Pages of memory that it begins with.
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// Other items of the module.
    pub fn with(mut self, more: impl Into<String>) -> Self {
        self.more = more.into();
        self
    }

    /// Does this first whenever memory is asked for.
    pub fn realloc(mut self, body: &str) -> Self {
        self.realloc = body.into();
        self
    }

    /// Does this after its result was read.
    pub fn post_return(mut self, body: &str) -> Self {
        self.post_return = Some(body.into());
        self
    }

    /// The core module, in the binary format.
    pub fn bytes(&self) -> Vec<u8> {
        let Guest { imports, pages, more, realloc, body, post_return } = self;
        let post_return = post_return
            .as_ref()
            .map_or_else(String::new, |body| format!("(func (export \"cabi_post_run\") (param i32) {body})"));
        let text = format!(
            r#"(module {imports}
              (memory (export "memory") {pages})
              (global $next (mut i32) (i32.const 65536))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                {realloc}
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (block $fits (loop $grow
                  (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                  (br_if $fits (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
                  (br $grow)))
                (local.get $at))
              {more}
              {post_return}
              (func (export "run") (param $ptr i32) (param $len i32) (result i32)
                (local $i i32) (local $n i32) (local $h i32)
                {body}
                (i32.store (i32.const 0) (i32.const 0))
                (i32.store (i32.const 4) (local.get $ptr)) (i32.store (i32.const 8) (local.get $len)) (i32.const 0)))"#
        );
        let mut bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (resolve, world) = &*WORLD;
        embed_component_metadata(&mut bytes, resolve, *world, StringEncoding::UTF8).unwrap();
        bytes
    }
}

/// Repeats a text `count` times, with `$i` counting up from 0.
pub fn times(count: u32, body: &str) -> String {
    format!(
        "(local.set $i (i32.const 0)) (loop $times {body}
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $times (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}
