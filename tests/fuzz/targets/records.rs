//! Texts from outside: scripts, schemas, names, references, options, records.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arbitrary::Unstructured;
use futures::StreamExt as _;
use holm_fuzz::{panics, schema};
use holm_host_api::llm::{LlmBackend as _, LlmError, Message, OfflineProvider, Part, Request, Role, Script};
use holm_host_api::trace::{Json, ObjectName, Reference};
use holm_host_api::{BudgetName, Grant, Grants, Name, Outcome, Scope, sanitize_line, sanitize_text};
use holm_runtime::workload::{Digest, IntakeError, check_imports, interface_of, matches};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(init: panics::end_the_process(), |bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if *kind == b'm' {
        if let Ok(schema) = schema::schema(4, &mut Unstructured::new(rest)) {
            answer_to(&schema.to_string());
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind {
        b's' => script(text),
        b'j' => answer_to(text),
        b'n' => names(text),
        b't' => shown(text),
        b'o' => holm_runtime::cli::read_as_option_values(text),
        b'r' => record(text),
        b'J' => canonical(text),
        _ => imports(text),
    }
});

fn script(text: &str) {
    match Script::from_json(text) {
        // What a script says is answered, whatever it is; but not what never is, or late.
        Ok(script) => {
            let slow = text.contains("delay") || text.contains("never") || text.contains('\\');
            if !slow {
                let _ = ask(OfflineProvider::with_script(script), None);
            }
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.len() < 10 * text.len() + 2_000, "{line}");
        }
    }
}

/// The offline provider's answer, if it has one, matches the schema, and it does not take for ever to look for it.
fn answer_to(schema: &str) {
    match ask(OfflineProvider::new(), Some(schema)) {
        Ok(answer) => {
            let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
            // A scripted answer is checked like one from anywhere.
            let script = json!({"rules": [{"reply": {"json": answer}}]}).to_string();
            let script = Script::from_json(&script).expect("a script");
            ask(OfflineProvider::with_script(script), Some(schema)).expect("the answer matches");
        }
        Err(LlmError::Invalid(_) | LlmError::SchemaMismatch(_)) => {}
        Err(other) => panic!("{other}"),
    }
}

fn ask(provider: OfflineProvider, schema: Option<&str>) -> Result<String, LlmError> {
    let router = provider.open(scope()).expect("a router");
    let request = Request {
        messages: vec![Message::text(Role::User, "Idea: a bakery for night owls")],
        response_schema: schema.map(str::to_owned),
        ..Request::default()
    };
    let answer = block_on(Arc::clone(&router).complete(request.clone()));
    // The same answer again, in pieces.
    let streamed = block_on(router.stream(request).collect::<Vec<_>>());
    assert_eq!(streamed.last().expect("an end").is_ok(), answer.is_ok());
    answer.map(|answer| answer.parts.iter().filter_map(Part::as_text).collect())
}

fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static TOKIO: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    TOKIO.with(|tokio| tokio.block_on(future))
}

fn scope() -> &'static Arc<Scope> {
    static SCOPE: OnceLock<Arc<Scope>> = OnceLock::new();
    SCOPE.get_or_init(|| {
        let now = Instant::now();
        Arc::new(Scope {
            execution: uuid::Uuid::nil(),
            user: "alice".parse().expect("a name"),
            session: None,
            program: None,
            profile: None,
            workload: "sha256:0".into(),
            input_bytes: 0,
            grants: Arc::new(Grants::all()),
            config: Arc::default(),
            started: now,
            deadline: now,
            cancellation: Default::default(),
        })
    })
}

/// What parses reads as it was written, and what does not is told in one clean line.
fn names(text: &str) {
    fn check<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, shown: impl Fn(&T) -> String) {
        match text.parse::<T>() {
            Ok(parsed) => assert_eq!(shown(&parsed), text),
            Err(error) => {
                let line = error.to_string();
                assert_eq!(sanitize_line(&line), line);
                assert!(line.len() < 2_000, "{line}");
            }
        }
    }
    check::<Name>(text, Name::to_string);
    check::<Grant>(text, Grant::to_string);
    check::<Digest>(text, Digest::to_string);
    check::<Reference>(text, Reference::to_string);
    check::<ObjectName>(text, |name| name.as_str().to_owned());
    check::<BudgetName>(text, BudgetName::to_string);
}

fn shown(text: &str) {
    let line = sanitize_line(text);
    assert!(!line.chars().any(char::is_control));
    assert_eq!(sanitize_line(&line), line);
    let lines = sanitize_text(text);
    assert!(!lines.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    assert_eq!(sanitize_text(&lines), lines);
    assert_eq!(lines.lines().count(), text.split_inclusive('\n').count());
}

fn record(text: &str) {
    let Ok(read) = serde_json::from_str::<Value>(text) else { return };
    if let Ok(outcome) = serde_json::from_value::<Outcome>(read["outcome"].clone()) {
        let again = serde_json::to_value(outcome).expect("an outcome is JSON");
        assert_eq!(serde_json::from_value::<Outcome>(again).expect("an outcome"), outcome);
        assert!(!outcome.kind().is_empty());
    }
    let _ = serde_json::from_value::<Name>(read["user"].clone());
    let _ = serde_json::from_value::<Digest>(read["workload"]["digest"].clone());
    let _ = serde_json::from_value::<Request>(read);
}

fn canonical(text: &str) {
    let json = Json::from_text(text);
    assert_eq!(Json::from_text(json.as_str()), json);
    assert_eq!(serde_json::to_string(&json).expect("JSON"), json.as_str());
    let value: Value = serde_json::from_str(json.as_str()).expect("canonical text is JSON");
    assert_eq!(Json::from_value(&value), json);
    assert!(!json.as_str().contains(['\n', '\r']));
}

fn imports(text: &str) {
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    let _ = matches(one, other);
    let (name, _) = interface_of(one);
    assert!(one.starts_with(name));
    let _: fn(&_, fn(&str) -> bool, fn(&str) -> bool) -> Result<(), IntakeError> = check_imports;
}
