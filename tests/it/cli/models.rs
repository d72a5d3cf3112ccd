//! Which models a workload reaches, from options and files.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::command::{Ended, Place};
use crate::llm::server::Server;

const KEY: &str = "sk-of-the-operator-0123456789";

fn ask(prompt: &str) -> String {
    json!({ "do": "llm", "prompt": prompt }).to_string()
}

/// `runtime.toml` with a provider `mine` and one called `other`, on this server.
fn configuration(server: &Server, more: &str) -> String {
    let url = |called: &str| format!("http://{}/{called}", server.address);
    format!(
        "{more}\n[[providers]]\nname = \"mine\"\nkind = \"openai\"\nurl = \"{}\"\nmodel = \"small\"\n\
         [[providers]]\nname = \"other\"\nkind = \"anthropic\"\nurl = \"{}\"\nmodel = \"claude\"\n",
        url("mine"),
        url("other"),
    )
}

fn exec(place: &Place, prompt: &str, options: &[&str]) -> Ended {
    let input = ask(prompt);
    let mut all = vec!["--input", &input];
    all.extend(options);
    place.exec(holm_test_artifacts::PROBE, &all)
}

fn secrets(place: &Place, mode: u32) {
    let file = place.file("secrets.toml", format!("mine = \"{KEY}\"\n"));
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_says_who_is_asked_and_a_flag_says_otherwise() {
    let (place, server) = (Place::new(), Server::start());
    place.file(
        "runtime.toml",
        configuration(&server, "[llm]\nprovider = \"mine\"\nfallback = [\"other\"]\n[llm.retries]\nbase_ms = 1"),
    );
    secrets(&place, 0o600);
    let asked = |prompt: &str, options: &[&str]| {
        let ended = exec(&place, prompt, &[&["--config-file", "runtime.toml"], options].concat());
        let seen = server.take().into_iter().map(|seen| (seen.path, seen.model, seen.key)).collect::<Vec<_>>();
        (ended, seen)
    };
    let small = |model: &str| ("/mine/chat/completions".to_owned(), model.to_owned(), KEY.to_owned());
    let claude = || ("/other/messages".to_owned(), "claude".to_owned(), String::new());
    assert_eq!(asked("echo", &[]).1, [small("small")]);
    assert_eq!(asked("echo", &["--model", "large"]).1, [small("large")]);
    assert_eq!(asked("echo", &["--model", "mine/large"]).1, [small("large")]);
    assert_eq!(asked("echo", &["--provider", "other"]).1, [claude()]);
    assert_eq!(asked("echo", &["--provider", "auto"]).1, [small("small")]);
    assert_eq!(asked("status 401 x", &[]).1, [small("small"), claude()]);
    assert_eq!(asked("status 401 x", &["--no-fallback"]).1, [small("small")]);
    let (ended, seen) = asked("status 401 x", &["--fallback", "offline"]);
    let answer: Value = serde_json::from_str(ended.with_status(0).text()).unwrap();
    assert_eq!((&answer["provider"], &answer["attempts"], seen), (&json!("offline"), &json!(2), vec![small("small")]));
}

#[test]
fn a_key_comes_from_a_variable_that_is_named() {
    let (place, server) = (Place::new(), Server::start());
    place.file("runtime.toml", configuration(&server, "[llm]\nprovider = \"mine\""));
    let run = |options: &[&str]| {
        let input = ask("echo");
        let options = [&["--config-file", "runtime.toml", "--input", &input], options].concat();
        let mut command = place.exec_command(holm_test_artifacts::PROBE, &options);
        let command = command.env("BYTES", std::ffi::OsStr::from_bytes(b"sk-\xff\xfe"));
        let command =
            command.env("MY_KEY", KEY).env("EMPTY", "").env("BLANK", " \n").env("OPENAI_API_KEY", "sk-not-asked-for");
        Ended::of(command.output().unwrap())
    };
    run(&[]).with_status(0);
    assert_eq!(server.take()[0].key, "", "no variable is read that was not named");
    run(&["--key-from-env", "mine=MY_KEY"]).with_status(0);
    assert_eq!(server.take()[0].key, KEY);
    run(&["--provider", "mine", "--key-from-env", "MY_KEY"]).with_status(0);
    assert_eq!(server.take()[0].key, KEY);
    run(&["--key-from-env", "typo=MY_KEY"]).with_status(2).saying("there is no provider `typo` that is asked");
    run(&["--key-from-env", "mine=MISSING"]).with_status(2).saying("there is no environment variable \"MISSING\"");
    run(&["--key-from-env", "mine=EMPTY"]).with_status(2).saying("\"EMPTY\" is empty");
    run(&["--key-from-env", "mine=BLANK"]).with_status(2).saying("\"BLANK\" is empty");
    let bytes = run(&["--key-from-env", "mine=BYTES"]).with_status(2).saying("\"BYTES\" is no text");
    assert!(!bytes.stderr.contains("sk-"), "{}", bytes.stderr);
    for wrong in ["mine=", "mine=A=B", "=", "mine=MY_KEY "] {
        run(&["--key-from-env", wrong]).with_status(2).saying("there is no environment variable");
    }
    run(&["--key-from-env", "MY_KEY"]).with_status(2).saying("write PROVIDER=MY_KEY, or name a --provider");
}

#[test]
fn what_makes_no_sense_is_one_sentence() {
    let (place, server) = (Place::new(), Server::start());
    place.file("runtime.toml", configuration(&server, ""));
    place.file("wrong.toml", "[llm]\nprovidr = \"openai\"\n");
    for (options, says) in [
        (&["--provider", "ollama"][..], "no model of the provider `ollama` is named; write `ollama/MODEL`"),
        (&["--provider", "openai/gpt-4o"], "there is no key for `openai`: put `openai = "),
        (&["--model", "gpt-4o"], "--model: name its provider too, as in `--provider openai/gpt-4o`"),
        (&["--model", "openai/gpt-4o"], "there is no key for `openai`"),
        (
            &["--config-file", "runtime.toml", "--key-from-env", "typo=PATH"],
            "there is no environment variable \"PATH\"",
        ),
        (&["--provider", "nobody/x"], "there is no provider `nobody`: none is described, and well known are openai, "),
        (&["--provider", "bedrock/x"], "the provider `bedrock` needs a table of its own in runtime.toml"),
        (&["--provider", "openai/gpt-4o", "--model", "x"], "--provider names a model already"),
        (&["--provider", "a b"], "--provider: write PROVIDER or PROVIDER/MODEL"),
        (&["--fallback", "offline", "--no-fallback"], "cannot be used with"),
        (&["--tier", "best"], "possible values: fast, balanced, quality"),
        (&["--config-file", "missing.toml"], "missing.toml: it cannot be read"),
        (&["--config-file", "wrong.toml"], "wrong.toml: line 2: unknown field `providr`"),
        (&["--config-file", "runtime.toml", "--secrets", "missing"], "missing: it cannot be read"),
    ] {
        exec(&place, "echo", options).with_status(2).saying(says);
    }
    let limited = ["--config-file", "runtime.toml", "--provider", "mine", "--limit", "llm_cost_microusd=5"];
    secrets(&place, 0o600);
    exec(&place, "echo", &limited)
        .with_status(2)
        .saying("the price of \"mine/small\" is not known, and cost is limited");
    secrets(&place, 0o644);
    exec(&place, "echo", &["--config-file", "runtime.toml"]).with_status(2).saying("chmod 600");
    assert!(server.take().is_empty() && place.records().is_empty());
}

#[test]
fn a_failure_shows_what_each_provider_said_and_no_key() {
    let (place, server) = (Place::new(), Server::start());
    place.file("runtime.toml", configuration(&server, "[llm]\nprovider = \"mine\"\nfallback = [\"other\"]"));
    secrets(&place, 0o600);
    let ended = exec(&place, "leak", &["--config-file", "runtime.toml", "--trace", "-vvv"]).with_status(1);
    let ended = ended.saying("mine/small: the key is not accepted (401): Incorrect API key provided: [key]");
    let shown = format!("{}{}{:?}", ended.text(), ended.stderr, place.records());
    assert!((0..KEY.len() - 8).all(|at| !shown.contains(&KEY[at..at + 8])), "{shown}");
}

/// A script is for the offline provider: nobody else is asked, whatever the file says.
#[test]
fn a_script_answers_where_no_provider_is_named() {
    let (place, server) = (Place::new(), Server::start());
    place.file("runtime.toml", configuration(&server, "[llm]\nprovider = \"mine\""));
    place.file("script.json", "{\"rules\":[{\"reply\":{\"text\":\"from the script\"}}]}");
    let options = ["--config-file", "runtime.toml", "--llm-script", "script.json"];
    let answer: Value = serde_json::from_str(exec(&place, "echo", &options).with_status(0).text()).unwrap();
    assert_eq!((&answer["text"], &answer["provider"]), (&json!("from the script"), &json!("offline")));
    let both = [&options[..], &["--provider", "mine", "--fallback", "offline"]].concat();
    let answer: Value = serde_json::from_str(exec(&place, "status 401 x", &both).with_status(0).text()).unwrap();
    assert_eq!((&answer["text"], server.take().len()), (&json!("from the script"), 1));
}
