//! Backends that panic in every method: of models, of the trace, of events and the log.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use holm_host_api::events::{Event, EventBackend, EventKind, EventSink};
use holm_host_api::llm::{Delta, Embeddings, LlmBackend, LlmError, Request, Response, Router};
use holm_host_api::trace::{
    CallEnd, CallId, CallStart, Feedback, Json, MemoryTrace, Reference, TraceBackend, TraceError, TraceSink,
};
use holm_host_api::{HostError, Outcome, Scope};

use super::super::attack;
use super::super::guests::Guest;
use super::{SECRET, assert_host_error};
use crate::support::Host;

/// A backend that panics in the method of this name, for mallory.
#[derive(Clone)]
struct Panics(&'static str);

/// What it gives to one execution.
struct PanicsFor {
    method: &'static str,
    trace: Option<Arc<dyn TraceSink>>,
}

impl Panics {
    fn opened(&self, scope: &Scope) -> PanicsFor {
        let method = if scope.user.as_str() == "mallory" { self.0 } else { "" };
        let opened = PanicsFor { method, trace: None };
        opened.at("open");
        opened
    }
}

impl PanicsFor {
    fn at(&self, method: &str) {
        if self.method == method {
            panic!("{SECRET}");
        }
    }
}

impl LlmBackend for Panics {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        Ok(Arc::new(self.opened(scope)))
    }
}

impl Router for PanicsFor {
    fn complete(self: Arc<Self>, _request: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        self.at("complete");
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.at("complete later");
            Err(LlmError::Refused("it does not matter".into()))
        })
    }

    fn stream(self: Arc<Self>, _request: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        self.at("stream");
        Box::pin(futures::stream::once(async move {
            self.at("stream later");
            Ok(Delta::Text("x".into()))
        }))
    }

    fn embed(
        self: Arc<Self>,
        _model: Option<String>,
        _inputs: Vec<String>,
    ) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        self.at("embed");
        Box::pin(async move {
            self.at("embed later");
            Ok(Embeddings {
                vectors: Vec::new(),
                provider: String::new(),
                model: String::new(),
                usage: None,
                attempts: Vec::new(),
            })
        })
    }
}

impl TraceBackend for Panics {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn TraceSink>, TraceError> {
        let trace = MemoryTrace::default().open(scope)?;
        Ok(Arc::new(PanicsFor { trace: Some(trace), ..self.opened(scope) }))
    }
}

impl PanicsFor {
    fn trace(&self) -> &Arc<dyn TraceSink> {
        self.trace.as_ref().unwrap()
    }
}

impl TraceSink for PanicsFor {
    fn start(&self, call: CallStart) {
        if call.parent.is_some() {
            self.at("start");
        }
        self.at("root");
        self.trace().start(call);
    }

    fn attribute(&self, call: CallId, key: String, value: Json) {
        self.at("attribute");
        self.trace().attribute(call, key, value);
    }

    fn end(&self, call: CallEnd) {
        self.at("end");
        self.trace().end(call);
    }

    fn publish(&self, reference: Reference, value: Json) -> BoxFuture<'static, Result<(), TraceError>> {
        self.at("publish");
        self.trace().publish(reference, value)
    }

    fn resolve(&self, reference: Reference) -> BoxFuture<'static, Result<Json, TraceError>> {
        self.at("resolve");
        self.trace().resolve(reference)
    }

    fn feedback(&self, reference: Reference, feedback: Feedback) -> BoxFuture<'static, Result<(), TraceError>> {
        self.at("feedback");
        self.trace().feedback(reference, feedback)
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>> {
        self.at("flush");
        self.trace().flush()
    }
}

impl EventBackend for Panics {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        Ok(Arc::new(self.opened(scope)))
    }
}

impl EventSink for PanicsFor {
    fn send(&self, event: Event) {
        match event.kind {
            EventKind::Log { .. } => self.at("log"),
            _ => self.at("send"),
        }
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        self.at("flush");
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A call with this operation, `$h`, which stays open.
const START: &str = "(call $start (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))
    (local.set $h (i32.load (i32.const 24)))";

/// A request with one message of one text.
const REQUEST: &str = "(i32.store (i32.const 1024) (i32.const 1200)) (i32.store (i32.const 1028) (i32.const 1))
    (i32.store8 (i32.const 1200) (i32.const 1))
    (i32.store (i32.const 1204) (i32.const 1300)) (i32.store (i32.const 1208) (i32.const 1))
    (i32.store (i32.const 1304) (i32.const 2048)) (i32.store (i32.const 1308) (i32.const 1))";

/// Reads the reference of an object, which it then uses.
const OBJECT: &str = "(call $publish (i32.const 2048) (i32.const 1) (i32.const 2048) (i32.const 1) (i32.const 16))
    (local.set $ptr (i32.load (i32.const 24))) (local.set $len (i32.load (i32.const 28)))";

fn guest(imports: &[&str], body: impl Into<String>) -> Guest {
    Guest::new(imports, body).with("(data (i32.const 2048) \"x\")")
}

#[tokio::test]
async fn a_backend_of_models_that_panics() {
    let complete = format!("{REQUEST} (call $complete (i32.const 1024) (i32.const 16))");
    let submit = format!(
        "{REQUEST} (call $submit (i32.const 1024) (i32.const 16)) (local.set $h (i32.load (i32.const 24)))
         (i32.store (i32.const 512) (local.get $h))
         (call $wait (i32.const 512) (i32.const 1) (i32.const 0) (i64.const 0) (i32.const 16))
         (call $get (local.get $h) (i32.const 16))"
    );
    let stream = format!(
        "{REQUEST} (call $stream (i32.const 1024) (i32.const 16)) (local.set $h (i32.load (i32.const 24)))
         (call $next (local.get $h) (i32.const 16))"
    );
    let embed = "(call $embed (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))";
    for (method, guest) in [
        ("open", guest(&["complete"], &*complete)),
        ("complete", guest(&["complete"], &*complete)),
        ("complete later", guest(&["complete"], &*complete)),
        ("complete", guest(&["submit", "wait", "get"], &*submit)),
        ("complete later", guest(&["submit", "wait", "get"], &*submit)),
        ("stream", guest(&["stream", "next"], &*stream)),
        ("stream later", guest(&["stream", "next"], &*stream)),
        ("embed", guest(&["embed"], embed)),
        ("embed later", guest(&["embed"], embed)),
    ] {
        let host = Host::with(|builder| builder.executions_max(1).llm(Panics(method)));
        for _ in 0..3 {
            assert_host_error(&attack(&host, &guest).await, method);
        }
    }
}

#[tokio::test]
async fn a_backend_of_the_trace_that_panics() {
    let attribute = format!(
        "{START} (call $attribute (local.get $h) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))"
    );
    let finish =
        format!("{START} (call $finish (local.get $h) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))");
    let drop_call = format!("{START} (call $drop-call (local.get $h))");
    let resolve = format!("{OBJECT} (call $resolve (local.get $ptr) (local.get $len) (i32.const 16))");
    let feedback = format!(
        "{OBJECT} (call $feedback (local.get $ptr) (local.get $len) (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))"
    );
    for (method, guest) in [
        ("open", guest(&[], "")),
        ("root", guest(&[], "")),
        ("start", guest(&["start"], START)),
        ("attribute", guest(&["start", "attribute"], attribute)),
        ("end", guest(&["start", "finish"], finish)),
        ("end", guest(&["start", "drop-call"], drop_call)),
        ("publish", guest(&["publish"], OBJECT)),
        ("resolve", guest(&["publish", "resolve"], resolve)),
        ("feedback", guest(&["publish", "feedback"], feedback)),
    ] {
        let host = Host::with(|builder| builder.executions_max(1).trace(Panics(method)));
        for _ in 0..3 {
            assert_host_error(&attack(&host, &guest).await, method);
        }
    }
}

/// What comes after the guest does not change how it ended.
#[tokio::test]
async fn a_backend_that_panics_at_the_end_is_in_the_report_of_the_finish() {
    for (method, guest) in [("end", guest(&[], "")), ("end", guest(&["start"], START)), ("flush", guest(&[], ""))] {
        let host = Host::with(|builder| builder.executions_max(1).trace(Panics(method)));
        for _ in 0..3 {
            let execution = attack(&host, &guest).await;
            assert_eq!(execution.record.outcome, Outcome::Completed, "{method}: {:?}", execution.record.error);
            assert_eq!(execution.record.finish.failures, ["trace: the backend panicked"], "{method}");
        }
    }
}

#[tokio::test]
async fn a_backend_of_events_that_panics() {
    let log = "(call $log (i32.const 0) (i32.const 2048) (i32.const 1) (i32.const 16))";
    let emit = "(call $emit (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))";
    let line = "(i32.store8 (i32.const 2048) (i32.const 10))
        (call $write (call $stdout) (i32.const 2048) (i32.const 1) (i32.const 16))";
    for (method, guest) in [
        ("open", guest(&[], "")),
        ("log", guest(&["log"], log)),
        ("send", guest(&["emit"], emit)),
        ("log", guest(&["stdout", "write"], line)),
    ] {
        let host = Host::with(|builder| builder.executions_max(1).events(Panics(method)));
        for _ in 0..3 {
            assert_host_error(&attack(&host, &guest).await, method);
        }
    }
    // The last line, which nobody ended, is logged when the guest is gone.
    let rest = "(call $write (call $stdout) (i32.const 2048) (i32.const 1) (i32.const 16))";
    for (method, guest) in [("log", guest(&["stdout", "write"], rest)), ("flush", guest(&[], ""))] {
        let host = Host::with(|builder| builder.executions_max(1).events(Panics(method)));
        for _ in 0..3 {
            let execution = attack(&host, &guest).await;
            let shown = serde_json::to_string(&execution.record).unwrap();
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(
                matches!(execution.record.outcome, Outcome::Completed | Outcome::HostError),
                "{method}: {:?}",
                execution.record.outcome
            );
        }
    }
}
