//! Names and references that try to be another user's, or another project's.

use holm_host_api::Outcome;
use serde_json::{Value, json};

use super::attack_with;
use crate::support::{Host, name, output};

/// What the probe answers to a step that may be denied.
async fn ask(host: &Host, step: Value) -> Value {
    let mut request = host.request(json!({ "do": "catch", "step": step }));
    request.user = name("mallory");
    let execution = host.runtime.execute(request).await;
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    output(&execution)
}

/// Names of objects that are no names.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        ".",
        "..",
        "../bob",
        "a/../b",
        "a/b",
        "a/",
        "/a",
        "\\a",
        "a\\..\\b",
        "a\0b",
        "\0",
        "a b",
        " a",
        "a\n",
        "a%2fb",
        "%2e%2e",
        "a:b",
        "a@b",
        "а",
        "ﬁ",
        "a\u{200b}",
        "\u{202e}a",
        "holm:///bob/default/object/x",
        "bob/default/object/x",
        "../../bob/default/object/x",
        "-a",
        ".a",
        "a\u{1b}[2J",
    ]
    .map(str::to_owned)
    .into();
    names.push("a".repeat(129));
    names.push("a".repeat(1_000_000));
    names
}

#[tokio::test]
async fn names_that_would_be_another_place_are_denied() {
    let host = Host::new();
    let steps: Vec<Value> = names()
        .iter()
        .map(|name| json!({ "do": "catch", "step": { "do": "publish", "name": name, "value": 1 } }))
        .collect();
    let mut request = host.request(json!({ "do": "sequence", "steps": steps }));
    request.user = name("mallory");
    let answers = output(&attack_with(&host, request).await);
    for (answer, name) in answers.as_array().unwrap().iter().zip(names()) {
        let denied = answer["err"].as_str().unwrap_or_else(|| panic!("{name:?} is a name: {answer}"));
        assert!(denied.len() < 1_000 && !denied.chars().any(|c| c.is_control()), "{denied:?}");
    }
}

/// Bob has an object and a call; mallory knows their references, and tries them in every spelling.
#[tokio::test]
async fn no_spelling_reaches_what_is_another_users() {
    let host = Host::new();
    let mut bobs = host.request(json!({ "do": "publish", "name": "x", "value": "bob's secret" }));
    (bobs.user, bobs.session) = (name("bob"), Some(name("private")));
    let execution = bobs.execution;
    let object = output(&host.runtime.execute(bobs).await);
    let object = object.as_str().unwrap();
    assert!(object.starts_with("holm:///bob/private/object/x:"), "{object}");
    let call = format!("holm:///bob/private/call/{execution}");

    let mut spellings = Vec::new();
    for reference in [object, &call] {
        spellings.extend([
            reference.to_owned(),
            reference.replace("/bob/", "/mallory/"),
            reference.replace("/bob/", "/mallory/../bob/"),
            reference.replace("/bob/", "/./bob/"),
            reference.replace("/bob/", "//bob/"),
            reference.replace("/bob/", "/BOB/"),
            reference.replace("/bob/", "/b%6fb/"),
            reference.replace("/bob/", "/bоb/"),
            reference.replace("/bob/", "/bob\0/"),
            reference.replace("/bob/", "/bob%00/"),
            reference.replace("///", "//bob@/"),
            reference.replace("holm:///", "holm://bob/"),
            reference.replace("holm:///", "HOLM:///"),
            reference.replace("holm:///", ""),
            reference.replace("/private/", "/default/"),
            reference.replace("/private/", "/*/"),
            format!("{reference}/"),
            format!("{reference}\0"),
            format!("{reference}#"),
            format!("{reference}?user=bob"),
            format!(" {reference}"),
            format!("{reference}{}", "x".repeat(1_000_000)),
        ]);
    }
    let steps: Vec<Value> = spellings
        .iter()
        .flat_map(|reference| {
            [
                json!({ "do": "catch", "step": { "do": "resolve", "reference": reference } }),
                json!({ "do": "catch", "step": { "do": "feedback", "reference": reference, "kind": "note", "payload": 1 } }),
            ]
        })
        .collect();
    let mut request = host.request(json!({ "do": "sequence", "steps": steps }));
    (request.user, request.session) = (name("mallory"), Some(name("private")));
    let answers = output(&attack_with(&host, request).await);
    for (number, answer) in answers.as_array().unwrap().iter().enumerate() {
        let denied = answer["err"].as_str().unwrap_or_else(|| panic!("{}: {answer}", spellings[number / 2]));
        assert!(!denied.contains("secret") && denied.len() < 1_500, "{denied}");
    }
    assert!(host.trace.tree(execution).unwrap().feedback.is_empty());
    // What is not there and what is another's are told alike.
    let absent = object.replace("object/x:", "object/y:");
    let [another, none] =
        [object.to_owned(), absent.clone()].map(|reference| json!({ "do": "resolve", "reference": reference }));
    let (another, none) = (ask(&host, another).await, ask(&host, none).await);
    assert_eq!(
        another["err"].as_str().unwrap().replace(object, ""),
        none["err"].as_str().unwrap().replace(&absent, "")
    );
}

/// Mallory publishes under the name of bob's object: it is another object, and bob's stays what it is.
#[tokio::test]
async fn an_equal_name_is_not_an_equal_object() {
    let host = Host::new();
    let publish = |user: &str, value: &str| {
        let mut request = host.request(json!({ "do": "publish", "name": "x", "value": value }));
        request.user = name(user);
        async { output(&host.runtime.execute(request).await).as_str().unwrap().to_owned() }
    };
    let bobs = publish("bob", "same").await;
    let mallorys = publish("mallory", "same").await;
    assert_ne!(bobs, mallorys);
    let mut request = host.request(json!({ "do": "resolve", "reference": bobs }));
    request.user = name("bob");
    assert_eq!(output(&host.runtime.execute(request).await), "same");
}

#[test]
fn users_have_names_that_cannot_be_mistaken() {
    for text in names().iter().filter(|text| *text != "a@b") {
        assert!(text.parse::<holm_host_api::Name>().is_err(), "{text:?}");
    }
}
