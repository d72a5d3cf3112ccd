//! The example workloads as they are checked in: they run, and they are not older than their sources.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use holm_host_api::events::EventKind;
use holm_host_api::llm::{OfflineProvider, Script};
use holm_host_api::trace::{CallStatus, CallTree};
use holm_host_api::{BudgetName, Outcome};
use holm_runtime::ExecutionRequest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command::Place;
use crate::support::{Host, name};

/// Largest component that is checked in.
const CHECKED_IN_BYTES_MAX: u64 = 2 << 20;

/// Built by the script alone, since it is larger.
const NOT_CHECKED_IN: &str = "guest-python";

fn prebuilt(guest: &str) -> PathBuf {
    repository_file(&format!("examples/prebuilt/{guest}.wasm"))
}

fn repository_file(path: &str) -> PathBuf {
    crate::support::repository().join(path)
}

/// What an example left: its output, its tree of calls, and its events.
struct Ran {
    output: Value,
    tree: CallTree,
    events: Vec<EventKind>,
}

async fn run(host: &Host, guest: &str, input: impl AsRef<[u8]>) -> Ran {
    let bytes = std::fs::read(prebuilt(guest)).unwrap_or_else(|error| panic!("{guest}: {error}"));
    let workload = host.runtime.intake(&bytes).unwrap();
    let request = ExecutionRequest::new(name("alice"), workload).input(input.as_ref().to_vec());
    let id = request.execution;
    let execution = host.runtime.execute(request).await;
    let record = &execution.record;
    assert_eq!(record.outcome, Outcome::Completed, "{guest}: {:?} {:?}", record.error, execution.cause);
    host.assert_nothing_held().await;
    Ran {
        output: serde_json::from_slice(&execution.output).unwrap(),
        tree: host.trace.tree(id).unwrap(),
        events: host.events.take(id).into_iter().map(|event| event.kind).collect(),
    }
}

/// The reason why a guest returned an error.
async fn refusal(guest: &str, input: &str) -> String {
    let host = Host::new();
    let workload = host.runtime.intake(&std::fs::read(prebuilt(guest)).unwrap()).unwrap();
    let execution = host.runtime.execute(ExecutionRequest::new(name("alice"), workload).input(input.to_owned())).await;
    assert_eq!(execution.record.outcome, Outcome::GuestError);
    execution.record.error.unwrap()
}

/// A tree as text: each call a line, under the one that it is part of.
fn drawn(tree: &CallTree) -> String {
    fn draw(call: &CallTree, depth: usize, drawn: &mut String) {
        assert_eq!(call.status, CallStatus::Ok, "{}", call.operation);
        writeln!(drawn, "{:depth$}{}", "", call.operation, depth = 2 * depth).unwrap();
        call.children.iter().for_each(|child| draw(child, depth + 1, drawn));
    }
    let mut text = String::new();
    draw(tree, 0, &mut text);
    text
}

fn progress(events: &[EventKind]) -> Vec<(u64, Option<u64>)> {
    let reported = |event: &EventKind| match event {
        EventKind::Progress { done, total, .. } => Some((*done, *total)),
        _ => None,
    };
    events.iter().filter_map(reported).collect()
}

const FIVE_AGENTS: &str = "\
execution
  generator
    llm.complete
  debate
    critic
      llm.complete
    advocate
      llm.complete
    skeptic
      llm.complete
  improver
    llm.complete
";

#[tokio::test]
async fn five_agents_work_on_an_idea() {
    let host = Host::new();
    let topic = "a better bicycle bell";
    for input in [topic.to_owned(), json!({ "topic": topic }).to_string()] {
        let Ran { output, tree, events } = run(&host, "guest-agents", input).await;
        assert_eq!(output["topic"], topic);
        for text in [
            "/idea/title",
            "/idea/summary",
            "/criticism",
            "/advocacy",
            "/doubts",
            "/improved/title",
            "/improved/summary",
        ] {
            assert!(!output.pointer(text).unwrap().as_str().unwrap().is_empty(), "{text}: {output}");
        }
        assert!((0.0..=10.0).contains(&output["score"].as_f64().unwrap()), "{output}");
        assert_eq!(drawn(&tree), FIVE_AGENTS);
        assert_eq!(progress(&events), [(0, Some(3)), (1, Some(3)), (2, Some(3)), (3, Some(3))]);
        assert!(events.iter().any(|event| matches!(event, EventKind::Log { message, .. } if message.contains(topic))));
    }
}

/// The three who look at the idea do so at once: not one of them has ended when the last begins.
#[tokio::test]
async fn three_of_the_agents_work_at_once() {
    let script = json!({ "rules": [{
        "when": { "tier": "fast" }, "delay_ms": 500, "reply": { "json": { "opinion": "it depends", "score": 6 } },
    }]});
    let Ran { output, tree, .. } = run(&Host::scripted(&script), "guest-agents", "bells").await;
    assert_eq!((&output["score"], &output["doubts"]), (&json!(6.0), &json!("it depends")));
    let reviewers = &tree.children[1].children;
    let last_began = reviewers.iter().map(|call| call.started_at).max().unwrap();
    let first_ended = reviewers.iter().map(|call| call.started_at + call.duration.unwrap()).min().unwrap();
    assert!(last_began < first_ended, "{reviewers:#?}");
}

#[tokio::test]
async fn an_input_that_makes_no_sense_is_the_guests_own_error() {
    for (guest, input, said) in [
        ("guest-agents", "", "topic"),
        ("guest-agents", r#"{"subject": "bells"}"#, "topic"),
        ("guest-evaluate", r#"{"data": []}"#, "unknown field `data`"),
        ("guest-js", "[]", "the input must be JSON like"),
    ] {
        let error = refusal(guest, input).await;
        assert!(error.contains(said), "{guest}: {error}");
    }
}

#[tokio::test]
async fn a_model_is_evaluated() {
    let host = Host::new();
    let Ran { output, tree, events } = run(&host, "guest-evaluate", "{}").await;
    assert_eq!(output["cases"], 6);
    assert_eq!(output["results"].as_array().unwrap().len(), 6);
    let accuracy = output["correct"].as_f64().unwrap() / 6.0;
    assert_eq!(output["accuracy"], accuracy);
    assert!(accuracy < 1.0, "the offline model knows nothing: {output}");
    assert!(output["dataset"].as_str().unwrap().starts_with("holm:///alice/default/object/dataset:"));
    let expected = format!("execution\n  evaluate\n{}", "    case\n      llm.complete\n".repeat(6));
    assert_eq!(drawn(&tree), expected);
    assert!(tree.children[0].children.iter().all(|case| case.feedback.len() == 1), "each case has its score");
    assert_eq!(progress(&events), (0..=6).map(|done| (done, Some(6))).collect::<Vec<_>>());

    let one = json!({ "dataset": [{ "question": "1 + 1?", "expected": "two" }], "model": "m" }).to_string();
    let script = json!({ "rules": [{ "when": { "model": "m" }, "reply": { "text": "It is TWO." } }] });
    assert_eq!(run(&Host::scripted(&script), "guest-evaluate", one).await.output["correct"], 1);
}

/// A model that refuses a case has failed that case.
#[tokio::test]
async fn a_model_that_refuses_is_evaluated_too() {
    let no = json!({ "rules": [{ "when": { "contains": "Faust" }, "reply": { "error": { "kind": "refused", "message": "not I" } } }] });
    let host = Host::scripted(&no);
    let workload = host.runtime.intake(&std::fs::read(prebuilt("guest-evaluate")).unwrap()).unwrap();
    let execution = host.runtime.execute(ExecutionRequest::new(name("alice"), workload).input("{}")).await;
    let output: Value = serde_json::from_slice(&execution.output).unwrap();
    let faust = &output["results"][3];
    assert!(faust["error"].as_str().unwrap().contains("not I"), "{output}");
    assert_eq!((&faust["answer"], &faust["correct"]), (&json!(null), &json!(false)));
}

#[tokio::test]
async fn right_answers_score_full_marks() {
    let answers = std::fs::read_to_string(repository_file("examples/guest-evaluate/answers.json")).unwrap();
    let script = Script::from_json(&answers).unwrap();
    let host = Host::with(|builder| builder.llm(OfflineProvider::with_script(script)));
    let Ran { output, .. } = run(&host, "guest-evaluate", "{}").await;
    assert_eq!((&output["correct"], &output["accuracy"]), (&json!(6), &json!(1.0)), "{output}");
}

#[tokio::test]
async fn tickets_are_classified_in_javascript() {
    let host = Host::new();
    let tickets: Vec<_> =
        (0..40).map(|n| json!({ "id": format!("T-{n}"), "text": format!("It is broken {n} times") })).collect();
    let Ran { output, tree, events } = run(&host, "guest-js", json!({ "tickets": tickets }).to_string()).await;
    let classified = output["tickets"].as_array().unwrap();
    assert!(classified.iter().map(|ticket| &ticket["id"]).eq(tickets.iter().map(|ticket| &ticket["id"])), "in order");
    for ticket in classified {
        assert!((1..=5).contains(&ticket["urgency"].as_i64().unwrap()), "{ticket}");
        assert!(ticket["topic"].is_string() && ticket["sentiment"].is_string(), "{ticket}");
    }
    let counted: i64 = output["topics"].as_object().unwrap().values().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!(counted, 40);
    let expected = format!("execution\n  classify tickets\n{}", "    classify ticket\n      llm.complete\n".repeat(40));
    assert_eq!(drawn(&tree), expected);
    assert_eq!(
        events.iter().filter(|event| matches!(event, EventKind::Event { kind, .. } if kind == "ticket")).count(),
        40
    );
}

#[tokio::test]
async fn words_are_counted_in_c() {
    let Ran { output, tree, .. } = run(&Host::new(), "guest-c", "the cat\nand the dog").await;
    assert_eq!((&output["words"], &output["distinct"]), (&json!(5), &json!(4)));
    assert_eq!(output["top"][0], json!({ "word": "the", "count": 2 }));
    assert_eq!(drawn(&tree), "execution\n", "a command knows of no trace");
}

/// Where the component was not built this has nothing to show, but on the machine that decides it is there.
#[tokio::test]
async fn texts_are_summarised_in_python() {
    if !prebuilt(NOT_CHECKED_IN).exists() {
        let decides = std::env::var_os("CI").is_some();
        assert!(!decides, "build it: examples/build-prebuilt.sh {NOT_CHECKED_IN}");
        return;
    }
    let host = Host::new();
    let text = "First paragraph.\n\nSecond one.\n\n\nThird.";
    let Ran { output, tree, events } = run(&host, NOT_CHECKED_IN, json!({ "text": text }).to_string()).await;
    assert_eq!(output["paragraphs"], 3);
    assert_eq!(output["summary"].as_str().unwrap().split("\n\n").count(), 3);
    assert!(output["usage"]["output_tokens"].as_u64() > Some(0));
    assert_eq!(drawn(&tree), "execution\n  summarise\n    llm.complete\n    llm.complete\n    llm.complete\n");
    assert_eq!(progress(&events), [(1, Some(3)), (2, Some(3)), (3, Some(3))]);
    let error = refusal(NOT_CHECKED_IN, "{}").await;
    assert!(error.contains("the input must be JSON like"), "{error}");
}

/// Denials reach every language as an error that says what was denied.
#[tokio::test]
async fn a_budget_that_runs_out_is_named_in_every_language() {
    let host = Host::new();
    let tickets = json!({ "tickets": [{ "id": "T-1", "text": "a" }, { "id": "T-2", "text": "b" }] }).to_string();
    for (guest, input) in
        [("guest-agents", "bells".to_owned()), ("guest-evaluate", "{}".to_owned()), ("guest-js", tickets)]
    {
        let workload = host.runtime.intake(&std::fs::read(prebuilt(guest)).unwrap()).unwrap();
        let mut request = ExecutionRequest::new(name("alice"), workload).input(input);
        request.budget.set(BudgetName::LlmRequests, 1);
        let execution = host.runtime.execute(request).await;
        assert_eq!(crate::support::exceeded(&execution), BudgetName::LlmRequests, "{guest}");
        let error = execution.record.error.unwrap();
        assert!(error.contains("llm_requests"), "{guest}: {error}");
    }
}

/// The first command of the README, and the one that scores full marks.
#[test]
fn what_the_readme_shows_works() {
    let place = Place::new();
    let agents = place.exec(prebuilt("guest-agents"), &["--input", "a better bicycle bell", "--trace"]).with_status(0);
    assert_eq!(agents.json()["topic"], "a better bicycle bell");
    let lines: Vec<_> = agents.stderr.lines().collect();
    for call in
        ["├─ generator  ", "├─ debate  ", "│  ├─ critic  ", "│  ├─ advocate  ", "│  └─ skeptic  ", "└─ improver  "]
    {
        assert!(lines.iter().any(|line| line.starts_with(call)), "{call} is not in: {}", agents.stderr);
    }
    let answers = repository_file("examples/guest-evaluate/answers.json");
    let scored = place.exec(prebuilt("guest-evaluate"), &["--llm-script", answers.to_str().unwrap()]).with_status(0);
    assert_eq!(scored.json()["accuracy"], 1.0);
}

/// A line of SOURCES.sha256: what a component was built from.
struct Built {
    digest: String,
    guest: String,
    roots: Vec<String>,
}

fn built() -> Vec<Built> {
    let text = std::fs::read_to_string(repository_file("examples/prebuilt/SOURCES.sha256")).unwrap();
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Built { digest: words.next().unwrap(), guest: words.next().unwrap(), roots: words.collect() }
    };
    text.lines().map(line).collect()
}

#[test]
fn what_is_checked_in_is_what_its_sources_make() {
    for Built { digest, guest, roots } in built() {
        assert!(!roots.is_empty(), "{guest} is built from nothing");
        assert_eq!(
            digest_of(&roots),
            digest,
            "the sources of {guest} have changed since it was built; run examples/build-prebuilt.sh {guest}"
        );
    }
}

#[test]
fn what_is_checked_in_is_complete_and_small() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(repository_file("examples/prebuilt")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "wasm") {
            let guest = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let bytes = path.metadata().unwrap().len();
            assert!(guest == NOT_CHECKED_IN || bytes <= CHECKED_IN_BYTES_MAX, "{guest} has {bytes} bytes");
            found.insert(guest);
        }
    }
    found.insert(NOT_CHECKED_IN.to_owned());
    let named: BTreeSet<_> = built().into_iter().map(|built| built.guest).collect();
    assert_eq!(found, named, "examples/build-prebuilt.sh builds them and writes SOURCES.sha256");
    let examples = std::fs::read_dir(repository_file("examples")).unwrap().map(|entry| entry.unwrap().file_name());
    let guests: BTreeSet<_> =
        examples.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("guest-")).collect();
    assert_eq!(guests, named, "every guest is built");
}

/// The digest that `examples/build-prebuilt.sh` documents.
fn digest_of(roots: &[String]) -> String {
    let mut files = Vec::new();
    for root in roots {
        collect(root, &mut files);
    }
    files.sort();
    let mut hasher = Sha256::new();
    for path in files {
        let bytes = std::fs::read(repository_file(&path)).unwrap();
        hasher.update(format!("{path}\0{}\0", bytes.len()));
        hasher.update(bytes);
    }
    hasher.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The files of a root that count, by their paths from the repository's root.
fn collect(path: &str, files: &mut Vec<String>) {
    let name = Path::new(path).file_name().unwrap().to_str().unwrap();
    let metadata = std::fs::symlink_metadata(repository_file(path)).unwrap();
    if name.starts_with('.') {
        return;
    }
    if metadata.is_dir() {
        if !["target", "node_modules", "__pycache__"].contains(&name) {
            for entry in std::fs::read_dir(repository_file(path)).unwrap() {
                collect(&format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap()), files);
            }
        }
    } else if metadata.is_file() && !name.ends_with(".wasm") {
        files.push(path.to_owned());
    }
}
