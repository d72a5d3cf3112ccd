//! Traces in memory: for tests, examples and offline use, and for embedders that read them at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use uuid::Uuid;

use super::{CallEnd, CallId, CallRecord, CallStart, CallTree, Feedback, Json, ObjectName, Reference, Target};
use super::{TraceBackend, TraceError, TraceSink};
use crate::{Name, Scope};

/// What an object or feedback takes beyond its own bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// Users who can have as many objects as a user may have.
const FULL_USERS_MAX: usize = 64;

/// Keeps the traces of the newest executions, and the objects of every user up to a size.
/// Clones share what they keep.
#[derive(Clone)]
pub struct MemoryTrace {
    shared: Arc<Shared>,
}

struct Shared {
    executions_max: usize,
    user_bytes_max: usize,
    /// By id, which is by age: ids of executions are UUIDv7.
    executions: Mutex<BTreeMap<Uuid, Arc<Execution>>>,
    objects: Mutex<Objects>,
}

#[derive(Default)]
struct Objects {
    /// The whole reference is the key: the owner cannot be left out of a look-up.
    versions: HashMap<Reference, Version>,
    published: HashMap<(Name, Arc<str>, ObjectName), u64>,
    bytes: HashMap<Name, usize>,
    bytes_of_all: usize,
}

struct Version {
    number: u64,
    value: Json,
    feedback: Vec<Feedback>,
}

struct Execution {
    user: Name,
    session: Option<Name>,
    calls: Mutex<ExecutionCalls>,
}

/// In the order in which they were started, which is the order of their ids unless the ids wrapped around.
#[derive(Default)]
struct ExecutionCalls {
    records: Vec<CallRecord>,
    unordered: bool,
}

impl ExecutionCalls {
    fn start(&mut self, call: CallStart) {
        self.unordered |= self.records.last().is_some_and(|last| last.start.id >= call.id);
        self.records.push(CallRecord::new(call));
    }

    fn position(&self, call: CallId) -> Option<usize> {
        if self.unordered {
            return self.records.iter().position(|record| record.start.id == call);
        }
        self.records.binary_search_by_key(&call, |record| record.start.id).ok()
    }

    fn find(&mut self, call: CallId) -> Option<&mut CallRecord> {
        let position = self.position(call)?;
        self.records.get_mut(position)
    }
}

/// A version of an object, as a list of them shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Its reference.
    pub reference: Reference,
    /// Its number among the versions of its name and project, from 1.
    pub number: u64,
    /// Scores, reactions and notes on it.
    pub feedback: Vec<Feedback>,
}

impl ObjectVersion {
    fn place(&self) -> (&str, Option<&ObjectName>, u64) {
        let name = match self.reference.target() {
            Target::Object { name, .. } => Some(name),
            Target::Call(_) => None,
        };
        (self.reference.project(), name, self.number)
    }
}

impl Default for MemoryTrace {
    /// A thousand executions, and 64 MiB of objects a user.
    fn default() -> Self {
        MemoryTrace::new(1000, 64 << 20)
    }
}

impl MemoryTrace {
    /// Keeps up to `executions_max` executions, at least one, and drops the oldest for a new one. Each
    /// takes what its own budgets allow. A user's objects, with the feedback on them, take up to
    /// `user_bytes_max` bytes, and all users' together up to 64 times as much; more is refused, never in exchange for
    /// what was published before.
    pub fn new(executions_max: usize, user_bytes_max: usize) -> Self {
        let (executions_max, executions, objects) = (executions_max.max(1), Mutex::default(), Mutex::default());
        MemoryTrace { shared: Arc::new(Shared { executions_max, user_bytes_max, executions, objects }) }
    }

    /// The calls of an execution, under way or ended. `None` if it is not kept.
    pub fn tree(&self, execution: Uuid) -> Option<CallTree> {
        let execution = lock(&self.shared.executions).get(&execution).cloned()?;
        // Copied first, since a guest that starts a call would have to wait for the tree.
        let records = lock(&execution.calls).records.clone();
        CallTree::build(records)
    }

    /// Drops the calls of an execution, and says whether there were any. Its objects are its user's and stay.
    pub fn forget(&self, execution: Uuid) -> bool {
        let forgotten = lock(&self.shared.executions).remove(&execution);
        forgotten.is_some()
    }

    /// The objects of a user, by project and name, each in the order of its versions.
    pub fn objects(&self, user: &Name) -> Vec<ObjectVersion> {
        let objects = lock(&self.shared.objects);
        let own = objects.versions.iter().filter(|(reference, _)| reference.user() == user);
        let mut listed: Vec<_> = own
            .map(|(reference, version)| ObjectVersion {
                reference: reference.clone(),
                number: version.number,
                feedback: version.feedback.clone(),
            })
            .collect();
        listed.sort_by(|a, b| a.place().cmp(&b.place()));
        listed
    }
}

impl TraceBackend for MemoryTrace {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn TraceSink>, TraceError> {
        let execution =
            Arc::new(Execution { user: scope.user.clone(), session: scope.session.clone(), calls: Mutex::default() });
        let oldest = {
            let mut executions = lock(&self.shared.executions);
            let full = executions.len() >= self.shared.executions_max;
            let oldest = full.then(|| executions.pop_first()).flatten();
            executions.insert(scope.execution, Arc::clone(&execution));
            oldest
        };
        // Freeing thousands of calls takes a while: nobody has to wait for the lock meanwhile.
        drop(oldest);
        Ok(Arc::new(MemorySink { shared: Arc::clone(&self.shared), execution }))
    }
}

/// It writes on if its execution is forgotten meanwhile; what it wrote goes with it.
struct MemorySink {
    shared: Arc<Shared>,
    execution: Arc<Execution>,
}

impl TraceSink for MemorySink {
    fn start(&self, call: CallStart) {
        lock(&self.execution.calls).start(call);
    }

    fn attribute(&self, call: CallId, key: String, value: Json) {
        if let Some(record) = lock(&self.execution.calls).find(call) {
            record.attributes.insert(key, value);
        }
    }

    fn end(&self, call: CallEnd) {
        if let Some(record) = lock(&self.execution.calls).find(call.id) {
            record.end(call);
        }
    }

    fn publish(&self, reference: Reference, value: Json) -> BoxFuture<'static, Result<(), TraceError>> {
        ready(self.own(&reference).and_then(|()| self.shared.publish(reference, value))).boxed()
    }

    fn resolve(&self, reference: Reference) -> BoxFuture<'static, Result<Json, TraceError>> {
        let resolved = self.own(&reference).and_then(|()| {
            let objects = lock(&self.shared.objects);
            let version = objects.versions.get(&reference).ok_or_else(|| TraceError::not_found(&reference))?;
            Ok(version.value.clone())
        });
        ready(resolved).boxed()
    }

    fn feedback(&self, reference: Reference, feedback: Feedback) -> BoxFuture<'static, Result<(), TraceError>> {
        ready(self.own(&reference).and_then(|()| self.shared.feedback(&reference, feedback))).boxed()
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), TraceError>> {
        ready(Ok(())).boxed()
    }
}

impl MemorySink {
    fn own(&self, reference: &Reference) -> Result<(), TraceError> {
        if *reference.user() == self.execution.user { Ok(()) } else { Err(TraceError::not_found(reference)) }
    }
}

impl Shared {
    fn publish(&self, reference: Reference, value: Json) -> Result<(), TraceError> {
        let Target::Object { name, .. } = reference.target() else {
            return Err(TraceError::Invalid(format!("`{reference}` is no object")));
        };
        let mut objects = lock(&self.objects);
        if objects.versions.contains_key(&reference) {
            return Ok(());
        }
        objects.take(reference.user(), value.as_str().len(), self.user_bytes_max)?;
        let key = (reference.user().clone(), reference.project().into(), name.clone());
        let number = objects.published.entry(key).or_default();
        *number += 1;
        let version = Version { number: *number, value, feedback: Vec::new() };
        objects.versions.insert(reference, version);
        Ok(())
    }

    fn feedback(&self, reference: &Reference, feedback: Feedback) -> Result<(), TraceError> {
        if let Target::Call(call) = reference.target() {
            // Bounded by the budgets of those who give it, and gone with the execution.
            let execution = self.execution_of(reference, *call)?;
            if let Some(record) = lock(&execution.calls).find(*call) {
                record.feedback.push(feedback);
            }
            return Ok(());
        }
        let mut objects = lock(&self.objects);
        if !objects.versions.contains_key(reference) {
            return Err(TraceError::not_found(reference));
        }
        let size = feedback.kind.len() + feedback.payload.as_str().len();
        objects.take(reference.user(), size, self.user_bytes_max)?;
        if let Some(version) = objects.versions.get_mut(reference) {
            version.feedback.push(feedback);
        }
        Ok(())
    }

    fn execution_of(&self, reference: &Reference, call: CallId) -> Result<Arc<Execution>, TraceError> {
        let executions = lock(&self.executions);
        let mut own = executions.values().rev().filter(|execution| {
            let project = execution.session.as_ref().map_or("default", Name::as_str);
            execution.user == *reference.user() && project == reference.project()
        });
        own.find(|execution| lock(&execution.calls).position(call).is_some())
            .cloned()
            .ok_or_else(|| TraceError::not_found(reference))
    }
}

impl Objects {
    /// Makes room for something of this user's.
    fn take(&mut self, user: &Name, size: usize, user_bytes_max: usize) -> Result<(), TraceError> {
        let bytes = self.bytes.entry(user.clone()).or_default();
        let taken = bytes.saturating_add(size).saturating_add(ENTRY_BYTES);
        let taken_by_all = self.bytes_of_all.saturating_add(size).saturating_add(ENTRY_BYTES);
        if taken > user_bytes_max {
            return Err(TraceError::Unavailable(format!(
                "your objects take {bytes} of {user_bytes_max} bytes; there is no room for {size} more"
            )));
        }
        if taken_by_all > user_bytes_max.saturating_mul(FULL_USERS_MAX) {
            return Err(TraceError::Unavailable("there is no room for objects any more".to_owned()));
        }
        *bytes = taken;
        self.bytes_of_all = taken_by_all;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]
pub(super) mod tests {
    use super::*;
    use crate::trace::Calls;
    use crate::{Budget, Meter, Outcome};

    /// The scope of a new execution of this user's.
    pub(crate) fn scope(user: &str) -> Arc<Scope> {
        Arc::new(Scope { user: user.parse().unwrap(), ..crate::fixture::scope() })
    }

    /// An execution of this user's in this session.
    pub(crate) fn execution(trace: &MemoryTrace, user: &str, session: Option<&str>) -> (Arc<Scope>, Arc<Calls>) {
        let mut scope = (*scope(user)).clone();
        scope.session = session.map(|session| session.parse().unwrap());
        let scope = Arc::new(scope);
        let calls = Calls::open(trace, &scope, &Arc::new(Meter::new(Budget::default())), 0).unwrap();
        (scope, calls)
    }

    #[test]
    fn the_oldest_execution_makes_room() {
        let trace = MemoryTrace::new(2, 1000);
        let kept: Vec<_> = (0..3).map(|_| execution(&trace, "alice", None)).collect();
        // It still runs, and never notices.
        kept[0].1.start("late", "").unwrap();
        assert!(trace.tree(kept[0].0.execution).is_none());
        assert!(trace.tree(kept[1].0.execution).is_some() && trace.tree(kept[2].0.execution).is_some());
    }

    #[tokio::test]
    async fn forgetting_an_execution_leaves_its_objects() {
        let trace = MemoryTrace::default();
        let (scope, calls) = execution(&trace, "alice", None);
        let reference = calls.publish("x", "1").await.unwrap();
        calls.finish(&Outcome::Completed, None, None);
        assert!(trace.forget(scope.execution) && !trace.forget(scope.execution));
        assert!(trace.tree(scope.execution).is_none());
        let (_, later) = execution(&trace, "alice", None);
        assert_eq!(later.resolve(&reference).await.unwrap(), "1");
        assert!(later.feedback(&calls.reference(CallId(scope.execution)), "note", "1").await.is_err());
    }

    #[tokio::test]
    async fn versions_are_counted_a_name_and_project() {
        let trace = MemoryTrace::default();
        let (alice, bob) = (execution(&trace, "alice", None).1, execution(&trace, "bob", None).1);
        let other = execution(&trace, "alice", Some("other")).1;
        for (calls, name, value) in [
            (&alice, "y", "1"),
            (&alice, "x", "{\"b\":1,\"a\":2}"),
            (&alice, "x", "2"),
            (&alice, "x", "{\"a\":2, \"b\":1}"),
            (&other, "x", "2"),
            (&bob, "x", "2"),
        ] {
            calls.publish(name, value).await.unwrap();
        }
        let listed = |user: &str| -> Vec<_> {
            let listed = trace.objects(&user.parse().unwrap());
            listed.iter().map(|v| (v.reference.to_string().rsplit_once(':').unwrap().0.to_owned(), v.number)).collect()
        };
        let at = |place: &str, number| (format!("holm:///{place}"), number);
        let (default, other) = ("alice/default/object", "alice/other/object/x");
        let (x, y) = (format!("{default}/x"), format!("{default}/y"));
        assert_eq!(listed("alice"), [at(&x, 1), at(&x, 2), at(&y, 1), at(other, 1)]);
        assert_eq!(listed("bob"), [at("bob/default/object/x", 1)]);
    }

    #[tokio::test]
    async fn the_space_of_a_user_is_bounded_and_is_the_users_own() {
        let trace = MemoryTrace::new(10, 1000);
        let (alice, bob) = (execution(&trace, "alice", None).1, execution(&trace, "bob", None).1);
        let first = alice.publish("x", &"1".repeat(9)).await.unwrap();
        let refused = alice.publish("x", &"x".repeat(500)).await.unwrap_err().to_string();
        assert!(refused.contains("no room for 502 more"), "{refused}");
        assert_eq!(alice.publish("x", &"1".repeat(9)).await.unwrap(), first);
        bob.publish("x", &"x".repeat(500)).await.unwrap();
        assert_eq!(alice.resolve(&first).await.unwrap(), "1".repeat(9));
    }

    #[tokio::test]
    async fn feedback_is_kept_on_calls_and_objects() {
        let trace = MemoryTrace::default();
        let (scope, calls) = execution(&trace, "alice", Some("s"));
        let call = calls.start("a", "").unwrap();
        let object = calls.publish("x", "1").await.unwrap();
        let (_, later) = execution(&trace, "alice", None);
        for reference in [calls.reference(call), object] {
            later.feedback(&reference, "score", "0.5").await.unwrap();
            later.feedback(&reference, "note", "fine").await.unwrap();
        }
        let score = Feedback { kind: "score".to_owned(), payload: Json::from_text("0.5") };
        assert_eq!(trace.tree(scope.execution).unwrap().children[0].feedback[0], score);
        assert_eq!(trace.objects(&scope.user)[0].feedback[0], score);
        // The same call in another project is another call.
        let elsewhere = calls.reference(call).replace("/s/", "/default/");
        assert!(later.feedback(&elsewhere, "score", "1").await.is_err());
    }
}
