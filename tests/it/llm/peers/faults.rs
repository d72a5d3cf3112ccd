//! What aimock can do wrong, and who is asked then.

use super::aimock::{FORMS, Form, aimock, asked};
use super::*;
use holm_runtime::backends::llm::Timeouts;

/// This form first, then the provider that needs no network.
fn with_fallback(form: &Form, peer: &Peer) -> LlmSettings {
    LlmSettings { fallback: Some(vec![target("offline")]), ..settings(vec![form.provider(peer), Provider::offline()]) }
}

impl Form {
    /// What is shown of a refusal. Where Bedrock says `message`, aimock says `error`, which Bedrock does not have.
    fn says<'a>(&self, whole: &'a str) -> &'a str {
        match whole.split_once(": ") {
            Some((status, _)) if self.name == "bedrock" => status,
            _ => whole,
        }
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn who_fails_is_tried_again_where_that_may_help_and_then_the_next() {
    let peer = aimock(None);
    for form in FORMS {
        let router = router(with_fallback(&form, &peer));
        let mut before = asked(&peer).len();
        for (prompt, tries, why) in [
            ("fail with 429", 3, "too many requests (429): slow down"),
            // It wants to be left alone for longer than is waited here.
            ("fail with 429 for long", 1, "too many requests (429): slow down"),
            ("fail with 500", 3, "the server failed (500): out of order"),
            ("hang up", 3, "the connection was closed before the answer's end"),
            ("write nonsense", 1, "the answer is no JSON"),
        ] {
            for streams in [false, true] {
                let answered = match streams {
                    false => Arc::clone(&router).complete(says(prompt)).await,
                    true => stream(&router, says(prompt)).await.map(|streamed| streamed.response),
                };
                let answer = answered.unwrap_or_else(|error| panic!("{}, {prompt}: {error:?}", form.name));
                let failures = failures(&answer.attempts);
                assert_eq!(answer.provider, "offline", "{}, {prompt}", form.name);
                assert_eq!((failures.len(), answer.attempts.len()), (tries, tries + 1), "{}: {answer:?}", form.name);
                // Nonsense has no events; then it is said that there are none.
                let says_why =
                    |failure: &&str| failure.contains(form.says(why)) || (streams && prompt == "write nonsense");
                assert!(failures.iter().all(says_why), "{}, {prompt}, {streams}: {failures:?}", form.name);
                let now = asked(&peer).len();
                assert_eq!(now - before, tries, "{}, {prompt}, {streams}", form.name);
                before = now;
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn who_says_nothing_is_not_waited_for_and_not_asked_again() {
    let peer = aimock(None);
    for form in FORMS {
        let timeouts = Timeouts { answer_ms: 200, ..Timeouts::default() };
        let router = router(LlmSettings { timeouts, ..with_fallback(&form, &peer) });
        let whole = Arc::clone(&router).complete(says("say nothing for long")).await.unwrap();
        let streamed = stream(&router, says("say nothing for long")).await.unwrap();
        for answer in [whole, streamed.response] {
            assert_eq!((answer.provider.as_str(), answer.attempts.len()), ("offline", 2), "{}", form.name);
            let [failure] = failures(&answer.attempts)[..] else { panic!("{}: {answer:?}", form.name) };
            assert!(failure.starts_with("timed out (") && failure.ends_with(" after 200 ms"), "{failure}");
        }
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn who_recovers_answers_and_who_refuses_is_believed() {
    for form in FORMS {
        // It counts how often each was asked.
        let peer = aimock(None);
        let router = router(with_fallback(&form, &peer));
        let answer = Arc::clone(&router).complete(says("fail once")).await.unwrap();
        assert_eq!((answer.text().as_str(), answer.provider.as_str()), ("Now it works.", form.name));
        assert_eq!(failures(&answer.attempts), [form.says("the server failed (503): try again")], "{}", form.name);
        let refused = Arc::clone(&router).complete(says("fail with 400")).await.unwrap_err();
        let expected = form.says("the request is not accepted (400): not like this");
        assert_eq!(refused, LlmError::Refused(format!("{}: {expected}", form.name)));
        assert_eq!(asked(&peer).len(), 3, "{}: all would refuse it alike", form.name);
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn a_stream_that_breaks_off_is_not_begun_anew() {
    let peer = aimock(None);
    for form in FORMS {
        let router = router(with_fallback(&form, &peer));
        let before = asked(&peer).len();
        let broken = stream(&router, says("break off")).await.unwrap_err();
        assert!(
            matches!(&broken, LlmError::Unavailable(why) if why.starts_with("the answer broke off: ")),
            "{}: {broken:?}",
            form.name
        );
        assert_eq!(asked(&peer).len(), before + 1, "{}", form.name);
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn only_the_right_key_is_accepted_and_a_wrong_one_does_not_show() {
    let (right, wrong) = ("sk-right-Qw71Er82Ty93Ui04", "sk-wrong-Zx81Qq7Lm20Pp55Rr");
    let peer = aimock(Some(right));
    for form in FORMS {
        let of = |key: &str| router(settings(vec![form.provider_with(&peer, Credentials::Key(Secret::new(key)))]));
        assert!(of(right).complete(says("say hello")).await.is_ok(), "{}", form.name);
        let Err(LlmError::AllFailed(attempts) | LlmError::NotBegun(attempts)) =
            of(wrong).complete(says("say hello")).await
        else {
            panic!("{}: a wrong key was accepted", form.name)
        };
        let failures = failures(&attempts);
        assert_eq!(failures.len(), 1, "{}: it is not tried again", form.name);
        assert!(failures[0].starts_with("the key is not accepted (401)"), "{}: {failures:?}", form.name);
        assert!(!shows(&format!("{attempts:?}"), wrong), "{}: {attempts:?}", form.name);
    }
}
