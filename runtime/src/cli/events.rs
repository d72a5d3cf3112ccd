//! The events of an execution on stderr: log lines, and progress as a bar where there is a terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use super::terminal;
use crate::host_api::events::{Event, EventBackend, EventKind, EventSink, Level};
use crate::host_api::{HostError, Scope, sanitize_line};

/// Events that may wait to be printed. A guest never waits for a slow terminal.
const EVENTS_WAITING_MAX: usize = 4_096;

/// Prints events, off the guest's thread.
#[derive(Clone)]
pub(super) struct TerminalEvents {
    waiting: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Event(Event),
    Flush(oneshot::Sender<()>),
}

impl TerminalEvents {
    /// Starts the printer.
    pub(super) fn start(quiet: bool) -> Self {
        let (waiting, mut arriving) = mpsc::channel(EVENTS_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || {
            let mut printer = Printer { quiet, bar: None };
            while let Some(message) = arriving.blocking_recv() {
                match message {
                    Message::Event(event) => printer.print(event.kind),
                    Message::Flush(done) => {
                        printer.end(lost.swap(0, Ordering::Relaxed));
                        let _ = done.send(());
                    }
                }
            }
        });
        TerminalEvents { waiting, dropped }
    }
}

impl EventBackend for TerminalEvents {
    fn open(&self, _scope: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        Ok(Arc::new(self.clone()))
    }
}

impl EventSink for TerminalEvents {
    fn send(&self, event: Event) {
        if self.waiting.try_send(Message::Event(event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        async {
            let (done, printed) = oneshot::channel();
            let gone = |_| HostError::new("the printer of events is gone");
            self.waiting.send(Message::Flush(done)).await.map_err(|_| gone(()))?;
            printed.await.map_err(|_| gone(()))
        }
        .boxed()
    }
}

struct Printer {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Printer {
    fn print(&mut self, kind: EventKind) {
        if self.quiet {
            return;
        }
        match kind {
            EventKind::Log { level, message } => {
                let begins = match level {
                    Level::Info => "",
                    Level::Debug => "debug: ",
                    Level::Warn => "warning: ",
                    Level::Error => "error: ",
                };
                // Its further lines are indented: none can pass for another message.
                let lines: Vec<_> = message.lines().map(sanitize_line).collect();
                self.line(&format!("{begins}{}", lines.join("\n  ")));
            }
            EventKind::Event { kind, payload } => {
                self.line(&format!("[{}] {}", sanitize_line(&kind), sanitize_line(&payload)));
            }
            EventKind::Progress { done, total, message } => self.progress(done, total, &sanitize_line(&message)),
        }
    }

    fn progress(&mut self, done: u64, total: Option<u64>, message: &str) {
        if !std::io::stderr().is_terminal() {
            let of = total.map(|total| format!("/{total}")).unwrap_or_default();
            terminal::line(&format!("({done}{of}) {message}"));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_length(total.unwrap_or(done).max(done));
        bar.set_position(done);
        bar.set_message(message.to_owned());
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| terminal::line(text)),
            None => terminal::line(text),
        }
    }

    fn end(&mut self, dropped: u64) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if dropped > 0 && !self.quiet {
            terminal::line(&format!("({dropped} events came too fast to be shown)"));
        }
    }
}
