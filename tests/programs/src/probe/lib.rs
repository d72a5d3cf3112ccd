//! A workload that does one action, which its input names: `{"do": "echo", "value": 1}`.
//!
//! The actions are the variants of [`Action`]; the folder has one file for each group of them. An action that the
//! host denies fails with the text of the denial.

mod basics;
mod events;
mod execution;
mod hunger;
mod llm;
mod scratch;
mod trace;
mod wasi;

use serde::Deserialize;
use serde_json::{Map, Value, json};

holm_guest::entry!(run);

/// The name of an action under `do`, and beside it the action's fields.
type Input = Map<String, Value>;

/// What an action returns: any JSON, or the text of an error.
type Outcome = Result<Value, String>;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Action {
    // Basics.
    /// Returns `value`.
    Echo {
        #[serde(default)]
        value: Value,
    },
    /// Returns an error.
    Fail {
        #[serde(default = "basics::message")]
        message: String,
    },
    Panic {
        #[serde(default = "basics::message")]
        message: String,
    },
    /// Executes the `unreachable` instruction.
    Unreachable {},
    /// Counts in a global of the instance, and returns the count.
    Counter {},
    /// Returns a text of `bytes` bytes.
    BigOutput {
        bytes: usize,
    },
    /// Does every step and returns what each returned; ends at the first that fails.
    Sequence {
        steps: Vec<Input>,
    },
    /// Does `step` and returns `{"ok": ...}` or `{"err": ...}`.
    Catch {
        step: Input,
    },

    // Hunger: what only a limit ends.
    Spin {},
    Recurse {},
    /// Grows a vector, touching every page: up to `bytes`, else until there is no more.
    Grow {
        bytes: Option<usize>,
    },
    SleepForever {},
    /// Writes `count` times (else for ever) `bytes` bytes. A `stubborn` flood goes on after a denial.
    LogFlood(hunger::Flood),
    EventFlood(hunger::Flood),
    ProgressFlood(hunger::Flood),
    TraceFlood(hunger::Flood),
    PublishFlood(hunger::Flood),
    StdoutFlood(hunger::Flood),
    StderrFlood(hunger::Flood),
    /// Submits requests to a model, `count` or for ever, and keeps them.
    PendingFlood(hunger::Flood),
    /// Asks the host `count` times whether the execution is cancelled.
    HostCallLoop {
        count: u64,
    },

    // Events.
    Emit {
        kind: String,
        #[serde(default)]
        payload: Value,
    },
    Progress {
        done: u64,
        total: Option<u64>,
        #[serde(default)]
        message: String,
    },
    /// Logs at `level`: debug, info, warn or error.
    Log {
        level: String,
        message: String,
    },

    // Execution.
    Identity {},
    Remaining {},
    Config {
        key: String,
    },
    IsCancelled {},
    /// Looks every 5 ms whether the execution is cancelled, and returns once it is.
    WaitCancel {},

    // Models.
    Llm(llm::Ask),
    /// Asks `count` times at once; `{i}` in the prompt is the number of the request.
    LlmMany(llm::Ask),
    /// Returns an answer that obeys `schema`.
    LlmJson(llm::Ask),
    LlmStream(llm::Ask),
    /// Submits a request, waits `timeout_ms` for it, and returns whether it is ready.
    LlmReady(llm::Ask),
    /// Submits a request and drops it at once.
    LlmDrop(llm::Ask),
    Embed {
        inputs: Vec<String>,
        model: Option<String>,
    },

    // Trace.
    /// Does `step`, if there is one, within a call.
    Call {
        operation: String,
        #[serde(default)]
        inputs: Value,
        step: Option<Input>,
    },
    /// Opens calls within calls, `depth` deep, and finishes them from the inside.
    TraceNested {
        depth: usize,
    },
    /// Opens a call and drops it without finishing.
    Abandon {
        operation: String,
    },
    /// Opens a call and leaves it open.
    LeaveOpen {
        operation: String,
    },
    Publish {
        name: String,
        value: Value,
    },
    Resolve {
        reference: String,
    },
    /// On a call of its own, if there is no reference.
    Feedback {
        reference: Option<String>,
        kind: String,
        #[serde(default)]
        payload: Value,
    },

    // WASI.
    Sleep {
        ms: u64,
    },
    Env {},
    Args {},
    Print {
        text: String,
    },
    ReadFile {
        path: String,
    },
    WriteFile {
        path: String,
        content: String,
    },
    ListDir {
        path: String,
    },
    /// Fills the scratch folder by `how` until it is denied.
    ScratchFill {
        how: String,
    },
    /// Does `how` `times` times, which leaves no more behind than once.
    ScratchChurn {
        how: String,
        times: u32,
    },
    /// Tries to reach `path`, on the host, and returns what worked.
    ScratchEscape {
        path: String,
    },
    /// Tries to change a read-only folder `/data`, and returns what worked.
    ScratchTamper {},
    /// Returns the names that a file can have.
    ScratchNames {
        names: Vec<String>,
    },
    ScratchDeep {
        depth: u32,
    },
    /// Leaves files named `mark`, and returns what was there before.
    ScratchLeave {
        mark: String,
    },
    /// Returns `bytes` random bytes in hexadecimal.
    Random {
        bytes: usize,
    },
    Clock {},
    Exit {
        status: i32,
    },
}

fn run(mut input: Input) -> Outcome {
    let Some(Value::String(name)) = input.remove("do") else {
        return Err("the input names no action under `do`".into());
    };
    let tagged = Value::Object(Map::from_iter([(name, Value::Object(input))]));
    act(Action::deserialize(tagged).map_err(|error| error.to_string())?)
}

fn act(action: Action) -> Outcome {
    match action {
        Action::Echo { value } => Ok(value),
        Action::Fail { message } => Err(message),
        Action::Panic { message } => panic!("{message}"),
        Action::Unreachable {} => core::arch::wasm32::unreachable(),
        Action::Counter {} => Ok(json!(basics::counter())),
        Action::BigOutput { bytes } => Ok(json!("x".repeat(bytes))),
        Action::Sequence { steps } => steps.into_iter().map(run).collect(),
        Action::Catch { step } => Ok(match run(step) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "err": error }),
        }),

        Action::Spin {} => hunger::spin(),
        Action::Recurse {} => Ok(json!(hunger::recurse(0))),
        Action::Grow { bytes } => Ok(json!(hunger::grow(bytes))),
        Action::SleepForever {} => hunger::sleep_forever(),
        Action::LogFlood(flood) => flood.logs(),
        Action::EventFlood(flood) => flood.events(),
        Action::ProgressFlood(flood) => flood.progress(),
        Action::TraceFlood(flood) => flood.calls(),
        Action::PublishFlood(flood) => flood.objects(),
        Action::StdoutFlood(flood) => flood.lines(std::io::stdout()),
        Action::StderrFlood(flood) => flood.lines(std::io::stderr()),
        Action::PendingFlood(flood) => flood.requests(),
        Action::HostCallLoop { count } => Ok(json!(hunger::host_calls(count))),

        Action::Emit { kind, payload } => events::emit(&kind, &payload),
        Action::Progress { done, total, message } => events::progress(done, total, &message),
        Action::Log { level, message } => events::log(&level, &message),

        Action::Identity {} => Ok(execution::identity()),
        Action::Remaining {} => Ok(execution::remaining()),
        Action::Config { key } => Ok(json!(holm_guest::execution::config(&key))),
        Action::IsCancelled {} => Ok(json!(holm_guest::execution::is_cancelled())),
        Action::WaitCancel {} => Ok(execution::wait_cancel()),

        Action::Llm(ask) => ask.send(),
        Action::LlmMany(ask) => ask.send_many(),
        Action::LlmJson(ask) => ask.send_json(),
        Action::LlmStream(ask) => ask.stream(),
        Action::LlmReady(ask) => ask.ready(),
        Action::LlmDrop(ask) => ask.submit_and_drop(),
        Action::Embed { inputs, model } => llm::embed(model.as_deref(), inputs),

        Action::Call { operation, inputs, step } => trace::call(&operation, &inputs, step),
        Action::TraceNested { depth } => trace::nested(depth),
        Action::Abandon { operation } => trace::abandon(&operation),
        Action::LeaveOpen { operation } => trace::leave_open(&operation),
        Action::Publish { name, value } => trace::publish(&name, &value),
        Action::Resolve { reference } => trace::resolve(&reference),
        Action::Feedback { reference, kind, payload } => trace::feedback(reference, &kind, &payload),

        Action::Sleep { ms } => Ok(wasi::sleep(ms)),
        Action::Env {} => Ok(wasi::env()),
        Action::Args {} => Ok(wasi::args()),
        Action::Print { text } => wasi::print(&text),
        Action::ReadFile { path } => wasi::read_file(&path),
        Action::WriteFile { path, content } => wasi::write_file(&path, &content),
        Action::ListDir { path } => wasi::list_dir(&path),
        Action::ScratchFill { how } => scratch::fill(&how),
        Action::ScratchChurn { how, times } => scratch::churn(&how, times),
        Action::ScratchEscape { path } => scratch::escape(&path),
        Action::ScratchTamper {} => scratch::tamper(),
        Action::ScratchNames { names } => scratch::names(names),
        Action::ScratchDeep { depth } => scratch::deep(depth),
        Action::ScratchLeave { mark } => scratch::leave(&mark),
        Action::Random { bytes } => wasi::random(bytes),
        Action::Clock {} => Ok(wasi::clock()),
        Action::Exit { status } => std::process::exit(status),
    }
}
