//! What the guest sees of `events`: every call is taken or denied at once; none traps.

use super::EventsContext;
use super::bindings::events::{Host, Level as GuestLevel};
use super::{EventKind, Level};
use crate::bindings::types::Denied as GuestDenied;
use crate::{BudgetName, Denied, View};

type Answer = wasmtime::Result<Result<(), GuestDenied>>;

impl View<'_, EventsContext> {
    fn send(&mut self, function: &'static str, bytes: usize, kind: EventKind) -> Answer {
        let (context, _, gate) = self.parts()?;
        let sent = gate.enter("events", function).and_then(|call| {
            let charged =
                call.moves(bytes).charge_all(&[(BudgetName::Events, 1), (BudgetName::EventBytes, bytes as u64)]);
            call.end(charged.map(|()| context.send(gate.scope().execution, kind)))
        });
        Ok(sent.map_err(Into::into))
    }
}

impl Host for View<'_, EventsContext> {
    /// The guest sees `exhausted` once `events` or `event_bytes` ran out.
    fn emit(&mut self, kind: String, payload: String) -> Answer {
        self.send("emit", kind.len() + payload.len(), EventKind::Event { kind, payload })
    }

    /// The guest sees `exhausted` once `events` or `event_bytes` ran out.
    fn progress(&mut self, done: u64, total: Option<u64>, message: String) -> Answer {
        self.send("progress", message.len(), EventKind::Progress { done, total, message })
    }

    /// The guest sees `exhausted` once `log_bytes` ran out.
    fn log(&mut self, level: GuestLevel, message: String) -> Answer {
        let (_, _, gate) = self.parts()?;
        let level = match level {
            GuestLevel::Debug => Level::Debug,
            GuestLevel::Info => Level::Info,
            GuestLevel::Warn => Level::Warn,
            GuestLevel::Error => Level::Error,
        };
        let logged = gate.enter("events", "log").and_then(|call| {
            let logged = call.moves(message.len()).gate().log(level, &message);
            call.end(logged.map_err(Denied::from))
        });
        Ok(logged.map_err(Into::into))
    }
}
