//! The host functions of `events`, called directly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test should stop there")]

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::bindings::events::{Host as _, Level as GuestLevel};
use super::{Event, EventBackend, EventKind, EventSink, Events, EventsContext, Level};
use crate::BudgetName::{EventBytes, LogBytes};
use crate::bindings::types::Denied as GuestDenied;
use crate::fixture::{Fixture, Host, WALL, exhausted, scope};
use crate::{Budget, BudgetName, CapabilitySet, Ending, Gate, HostError, Meter, Outcome, Scope, View, finish};

fn view(host: &mut Host) -> View<'_, EventsContext> {
    host.view()
}

fn emit(host: &mut Host, kind: &str, payload: &str) -> Result<(), GuestDenied> {
    view(host).emit(kind.to_owned(), payload.to_owned()).unwrap()
}

fn log(host: &mut Host, message: &str) -> Result<(), GuestDenied> {
    view(host).log(GuestLevel::Info, message.to_owned()).unwrap()
}

#[tokio::test]
async fn what_is_sent_arrives_in_order_and_numbered() {
    let mut host = Fixture::new().open().await;
    emit(&mut host, "found", "{\"n\":1}").unwrap();
    view(&mut host).progress(3, Some(10), "reading".to_owned()).unwrap().unwrap();
    view(&mut host).progress(4, None, String::new()).unwrap().unwrap();
    log(&mut host, "half way").unwrap();
    let events = host.events();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.clone()).collect();
    let progress = |done, total, message: &str| EventKind::Progress { done, total, message: message.to_owned() };
    let expected = [
        EventKind::Event { kind: "found".to_owned(), payload: "{\"n\":1}".to_owned() },
        progress(3, Some(10), "reading"),
        progress(4, None, ""),
        EventKind::Log { level: Level::Info, message: "half way".to_owned() },
    ];
    assert_eq!(kinds, expected);
    assert!(events.iter().all(|event| event.execution == host.scope().execution));
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [0, 1, 2, 3]);
    emit(&mut host, "late", "").unwrap();
    assert_eq!(host.events()[0].sequence, 4);
    assert_eq!(host.journal(), ["events.emit", "events.progress", "events.progress", "events.log", "events.emit"]);
}

#[tokio::test]
async fn levels_are_what_the_guest_said() {
    let mut host = Fixture::new().open().await;
    for (guest, level) in [
        (GuestLevel::Debug, Level::Debug),
        (GuestLevel::Info, Level::Info),
        (GuestLevel::Warn, Level::Warn),
        (GuestLevel::Error, Level::Error),
    ] {
        view(&mut host).log(guest, "x".to_owned()).unwrap().unwrap();
        assert_eq!(host.events()[0].kind, EventKind::Log { level, message: "x".to_owned() });
    }
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_not_sent() {
    let mut host = Fixture::new().grants(&["events.progress"]).open().await;
    let Err(GuestDenied::NotGranted(what)) = emit(&mut host, "k", "p") else { panic!() };
    assert_eq!(what, "events.emit");
    assert!(matches!(log(&mut host, "x"), Err(GuestDenied::NotGranted(_))));
    view(&mut host).progress(1, None, String::new()).unwrap().unwrap();
    assert_eq!(host.events().len(), 1);
    let journal = ["events.emit: not granted: events.emit", "events.log: not granted: events.log", "events.progress"];
    assert_eq!(host.journal(), journal);
    assert_eq!((host.used(BudgetName::Events), host.used(LogBytes)), (1, 0));
}

#[tokio::test]
async fn the_number_of_events_is_bounded() {
    let mut host = Fixture::new().limit(BudgetName::Events, 2).open().await;
    emit(&mut host, "k", "").unwrap();
    view(&mut host).progress(1, None, String::new()).unwrap().unwrap();
    let Err(GuestDenied::Exhausted(denied)) = emit(&mut host, "k", "") else { panic!() };
    assert_eq!((denied.budget.as_str(), denied.limit, denied.used), ("events", 2, 2));
    assert_eq!(exhausted(&view(&mut host).progress(1, None, String::new()).unwrap().unwrap_err()), "events");
    log(&mut host, "the log has a budget of its own").unwrap();
    assert_eq!(host.events().len(), 3);
    assert_eq!(host.journal()[2], "events.emit: budget exceeded: events, limit 2, used 2");
}

#[tokio::test]
async fn the_bytes_of_events_are_bounded_and_a_denied_event_costs_nothing() {
    let mut host = Fixture::new().limit(EventBytes, 10).limit(BudgetName::Events, 2).open().await;
    for _ in 0..5 {
        assert_eq!(exhausted(&emit(&mut host, "kind", "1234567").unwrap_err()), "event_bytes");
    }
    assert_eq!((host.used(EventBytes), host.used(BudgetName::Events)), (0, 0));
    emit(&mut host, "kind", "1").unwrap();
    view(&mut host).progress(u64::MAX, Some(0), "12345".to_owned()).unwrap().unwrap();
    assert_eq!((host.used(EventBytes), host.used(BudgetName::Events)), (10, 2));
    assert_eq!(host.events().len(), 2);
}

#[tokio::test]
async fn the_log_keeps_within_its_bytes() {
    let mut host = Fixture::new().limit(LogBytes, 10).open().await;
    log(&mut host, "1234").unwrap();
    assert_eq!(exhausted(&log(&mut host, "12345").unwrap_err()), "log_bytes");
    log(&mut host, "1234").unwrap();
    assert_eq!(exhausted(&log(&mut host, "").unwrap_err()), "log_bytes", "an empty line is a line");
    assert_eq!(host.log_lines(), ["1234", "1234"]);
    assert_eq!(host.used(LogBytes), 10);
    let denied = "events.log: budget exceeded: log_bytes, limit 10, used 5";
    assert_eq!(host.journal()[..3], ["events.log", denied, "events.log"]);
}

#[tokio::test]
async fn the_hosts_work_is_billed_by_the_byte() {
    let mut host = Fixture::new().open().await;
    let before = host.meter().fuel_owed();
    emit(&mut host, "kind", &"x".repeat(10_000)).unwrap();
    assert!(host.meter().fuel_owed() - before >= 10_000);
}

/// Fails in one of its two duties.
#[derive(Clone, Copy)]
struct Broken {
    opens: bool,
}

impl EventBackend for Broken {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn EventSink>, HostError> {
        if self.opens { Ok(Arc::new(*self)) } else { Err(HostError::new("the broker is down").because("10.0.0.1")) }
    }
}

impl EventSink for Broken {
    fn send(&self, _: Event) {}

    fn flush(&self) -> BoxFuture<'_, Result<(), HostError>> {
        std::future::ready(Err(HostError::new("3 events are lost"))).boxed()
    }
}

#[tokio::test]
async fn a_backend_that_fails_is_a_host_error_and_not_the_guests() {
    let open = async |opens| {
        let mut set = CapabilitySet::default();
        set.add(Events::new(Arc::new(Broken { opens }))).unwrap();
        let mut gate = Gate::new(Arc::new(scope()), Arc::new(Meter::new(Budget::default())));
        set.open(&mut gate, WALL).await
    };
    let Err(error) = open(false).await else { panic!() };
    assert_eq!(error.message(), "`events` could not be opened: the broker is down");
    assert_eq!(error.cause().as_deref(), Some("10.0.0.1"));
    let report = finish(&mut open(true).await.unwrap(), &Ending::of(Outcome::Completed), WALL).await;
    assert_eq!(report.failures, ["events: 3 events are lost"]);
}
