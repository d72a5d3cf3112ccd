//! Objects and feedback: what a guest publishes, reads again and judges.

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use super::charge::ENTRY_BYTES;
use super::context::check_label;
use super::{Calls, Feedback, Reference, Target, TraceError};
use crate::Denied;

/// Whose things a guest may reach is decided here, before any backend is asked: references are made from
/// the execution's own scope, and those of another user are answered like those of nothing.
impl Calls {
    /// Publishes a version of an object and gives its reference. `value` is JSON or any other text.
    ///
    /// # Errors
    /// The name is no object name, a budget ran out, or the backend cannot keep it.
    pub fn publish(&self, name: &str, value: &str) -> BoxFuture<'static, Result<String, Denied>> {
        let prepared = name.parse().map_err(Denied::from).and_then(|object| {
            let value = self.charges.json(name.len() + ENTRY_BYTES, value)?;
            Ok((Reference::object(&self.scope, object, &value), value))
        });
        match prepared {
            Ok((reference, value)) => {
                let published = self.sink.publish(reference.clone(), value);
                async move { Ok(published.await.map(|()| reference.to_string())?) }.boxed()
            }
            Err(denied) => ready(Err(denied)).boxed(),
        }
    }

    /// Reads a version of an object of this user's, as JSON, from whichever of the user's projects.
    ///
    /// # Errors
    /// It is no reference of an object, nothing of this user's has it, or the backend cannot answer.
    pub fn resolve(&self, reference: &str) -> BoxFuture<'static, Result<String, Denied>> {
        match self.own(reference) {
            Ok(reference) if matches!(reference.target(), Target::Call(_)) => {
                ready(Err(Denied::Invalid(format!("`{reference}` is a call, not an object")))).boxed()
            }
            Ok(reference) => {
                let resolved = self.sink.resolve(reference);
                async move { Ok(resolved.await.map(|value| value.as_str().to_owned())?) }.boxed()
            }
            Err(error) => ready(Err(error.into())).boxed(),
        }
    }

    /// Keeps a score, reaction or note on a call or object of this user's. `payload` is JSON or any other text.
    ///
    /// # Errors
    /// It is no reference, nothing of this user's has it, the kind is empty or too long, a budget ran out,
    /// or the backend cannot keep it.
    pub fn feedback(&self, reference: &str, kind: &str, payload: &str) -> BoxFuture<'static, Result<(), Denied>> {
        let prepared = self.own(reference).map_err(Denied::from).and_then(|reference| {
            check_label("kind", kind)?;
            Ok((reference, self.charges.json(kind.len() + ENTRY_BYTES, payload)?))
        });
        match prepared {
            Ok((reference, payload)) => {
                let kept = self.sink.feedback(reference, Feedback { kind: kind.to_owned(), payload });
                async move { Ok(kept.await?) }.boxed()
            }
            Err(denied) => ready(Err(denied)).boxed(),
        }
    }

    fn own(&self, reference: &str) -> Result<Reference, TraceError> {
        let reference: Reference = reference.parse()?;
        if *reference.user() == self.scope.user { Ok(reference) } else { Err(TraceError::not_found(&reference)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use crate::trace::memory::tests::execution;
    use crate::trace::{Calls, Json, MemoryTrace, TraceBackend as _, TraceError};
    use crate::{Budget, BudgetName, Denied, Meter};

    #[tokio::test]
    async fn what_is_published_is_resolved_from_every_project_of_the_user() {
        let trace = MemoryTrace::default();
        let (_, calls) = execution(&trace, "alice", Some("research"));
        let reference = calls.publish("data", "{\"b\": 1, \"a\": [] }").await.unwrap();
        assert!(reference.starts_with("holm:///alice/research/object/data:"), "{reference}");
        let (_, elsewhere) = execution(&trace, "alice", None);
        assert_eq!(elsewhere.resolve(&reference).await.unwrap(), r#"{"a":[],"b":1}"#);
        assert_eq!(calls.publish("data", "{\"a\":[],\"b\":1}").await.unwrap(), reference);
        assert_ne!(calls.publish("data", "1").await.unwrap(), reference);
    }

    #[tokio::test]
    async fn what_is_another_users_does_not_exist() {
        let trace = MemoryTrace::default();
        let (bob_scope, bob) = execution(&trace, "bob", None);
        let (alice_scope, alice) = execution(&trace, "alice", None);
        let object = bob.publish("x", "1").await.unwrap();
        let call = bob.reference(bob.start("a", "").unwrap());
        let nothing = object.replace("object/x", "object/y");
        for reference in [&object, &nothing] {
            let absent = Denied::Invalid(format!("`{reference}` does not exist"));
            assert_eq!(alice.resolve(reference).await, Err(absent.clone()));
            assert_eq!(alice.feedback(reference, "note", "x").await, Err(absent));
        }
        assert_eq!(bob.resolve(&nothing).await, Err(Denied::Invalid(format!("`{nothing}` does not exist"))));
        assert!(alice.feedback(&call, "note", "x").await.is_err());
        assert!(alice.resolve(&call).await.is_err() && bob.resolve(&call).await.is_err());
        // Equal content under an equal name is another object.
        let own = alice.publish("x", "1").await.unwrap();
        assert_eq!(own, object.replace("bob", "alice"));

        // A backend holds by itself too.
        let sink = trace.open(&alice_scope).unwrap();
        let reference: crate::trace::Reference = object.parse().unwrap();
        let absent = Err(TraceError::not_found(&reference));
        assert_eq!(sink.resolve(reference.clone()).await, absent);
        assert!(sink.publish(reference, Json::from(1)).await.is_err());
        let tree = trace.tree(bob_scope.execution).unwrap();
        assert!(tree.children.iter().all(|call| call.feedback.is_empty()));
    }

    #[tokio::test]
    async fn objects_and_feedback_are_charged() {
        let trace = MemoryTrace::default();
        let (scope, _) = execution(&trace, "alice", None);
        let meter = Meter::new(Budget::default().with(BudgetName::TraceBytes, 150)).into();
        let calls = Calls::open(&trace, &scope, &meter, 0).unwrap();
        let reference = calls.publish("x", "1").await.unwrap();
        assert_eq!(meter.used(BudgetName::TraceBytes), 66);
        calls.feedback(&reference, "score", "1").await.unwrap();
        assert_eq!(meter.used(BudgetName::TraceBytes), 136);
        assert!(matches!(calls.publish("x", "2").await, Err(Denied::Exhausted(_))));
        assert!(matches!(calls.feedback(&reference, "score", "2").await, Err(Denied::Exhausted(_))));
        assert!(matches!(calls.publish("../x", "2").await, Err(Denied::Invalid(_))));
    }

    /// Texts that are close to the reference of an object of bob's.
    fn hostile(object: String) -> impl Strategy<Value = String> {
        let rest = object.replace("holm:///bob/", "");
        let pieces = [
            "holm:///",
            "bob",
            "alice",
            "bоb",
            "b\u{200b}ob",
            "BOB",
            "/",
            "//",
            "..",
            "../",
            ".",
            "%2e%2e",
            "%2f",
            "\\",
            "\0",
            ":",
            "default",
            "object",
            "object/x",
            "@",
            "?",
            "#",
            "alice/../bob",
            "holm:///alice/default/object/../../../bob/",
            " ",
        ];
        let piece =
            prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), Just(rest), Just(object)];
        proptest::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn no_text_resolves_an_object_of_another_user() {
        let trace = MemoryTrace::default();
        let (bob, alice) = (execution(&trace, "bob", None).1, execution(&trace, "alice", None).1);
        let object = bob.publish("x", "\"bob's secret\"").now_or_never().unwrap().unwrap();
        proptest!(|(text in hostile(object.clone()))| {
            prop_assert!(alice.resolve(&text).now_or_never().unwrap().is_err());
            prop_assert!(alice.feedback(&text, "note", "x").now_or_never().unwrap().is_err());
            if text != object {
                prop_assert!(bob.resolve(&text).now_or_never().unwrap().is_err());
            }
        });
    }
}
