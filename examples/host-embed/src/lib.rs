//! A server that embeds Holm for many users, with a capability of its own: see `notes.rs`.
//!
//! | route | |
//! |---|---|
//! | `PUT /workloads/{name}` | takes a workload in; answers its digest |
//! | `POST /users/{user}/executions/{name}` | runs it on the body; answers the record |
//! | `GET /users/{user}/notes` | the user's notes |
//! | `GET /live` | the executions under way |
//!
//! ```console
//! $ cargo run -p host-embed -- 8080 &
//! $ curl -T examples/prebuilt/guest-agents.wasm localhost:8080/workloads/agents
//! $ curl -d "a better bicycle bell" localhost:8080/users/alice/executions/agents
//! ```
//!
//! A real server takes the user from its authentication, never from the path as this one does, and keeps
//! `PUT /workloads` and `GET /live` for its operator.

mod notes;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use holm_runtime::host_api::trace::MemoryTrace;
use holm_runtime::host_api::{Budget, BudgetName, Grant, Grants, HostError, Name, Outcome};
use holm_runtime::workload::{CompileError, Workload};
use holm_runtime::{CompileIn, ExecutionRequest, Record, Runtime};
use tokio::sync::Semaphore;

use notes::Notes;

const WORKLOADS_MAX: usize = 100;
const WORKLOAD_BYTES_MAX: usize = 32 << 20;
const INPUT_BYTES_MAX: usize = 1 << 20;

/// Workloads that are taken in at one time. Each holds a thread, and memory of many times its size.
const INTAKES_MAX: usize = 2;

struct Server {
    runtime: Runtime,
    notes: Notes,
    grants: Grants,
    budget: Budget,
    workloads: RwLock<HashMap<Name, Workload>>,
    intakes: Arc<Semaphore>,
}

/// What went wrong with a request, as one sentence.
type Failure = (StatusCode, String);

/// The server's routes, with a runtime of their own behind them, which compiles what users upload where it is told.
///
/// # Errors
/// The runtime does not start on this machine.
pub fn router(compile_in: CompileIn) -> Result<Router, HostError> {
    let notes = Notes::default();
    let grants =
        ["notes", "events", "trace", "llm"].into_iter().map(str::parse::<Grant>).collect::<Result<Grants, _>>();
    let budget = Budget::default()
        .with(BudgetName::Fuel, 2_000_000_000)
        .with(BudgetName::WallMs, 10_000)
        .with(BudgetName::OutputBytes, 1 << 20)
        .with(BudgetName::LlmTokens, 100_000);
    // Traces of the newest executions. A real server has a backend that takes them elsewhere.
    let trace = MemoryTrace::new(100, 0);
    let builder = Runtime::builder().executions_max(200).compile_in(compile_in);
    let server = Server {
        runtime: builder.trace(trace).capability(notes.clone()).build()?,
        notes,
        grants: grants.map_err(|error| HostError::new(error.to_string()))?,
        budget,
        workloads: RwLock::default(),
        intakes: Arc::new(Semaphore::new(INTAKES_MAX)),
    };
    Ok(Router::new()
        .route("/workloads/{name}", put(take_in).layer(DefaultBodyLimit::max(WORKLOAD_BYTES_MAX)))
        .route("/users/{user}/executions/{name}", post(execute).layer(DefaultBodyLimit::max(INPUT_BYTES_MAX)))
        .route("/users/{user}/notes", get(list_notes))
        .route("/live", get(list_live))
        .with_state(Arc::new(server)))
}

async fn take_in(
    State(server): State<Arc<Server>>,
    Path(name): Path<Name>,
    bytes: Bytes,
) -> Result<(StatusCode, String), Failure> {
    let refused = |sentence: String| (StatusCode::UNPROCESSABLE_ENTITY, sentence);
    let turn = Arc::clone(&server.intakes).acquire_owned().await;
    let runtime = server.runtime.clone();
    let intake = tokio::task::spawn_blocking(move || {
        // It goes on if the client goes away, so that its turn must not end before it does.
        let _turn = turn;
        runtime.intake(&bytes)
    });
    let workload = intake.await.map_err(host_failed)?.map_err(|error| refused(error.to_string()))?;
    // Not needed, but the first execution does not wait for it then.
    server.runtime.compile(&workload).await.map_err(|error| match error {
        CompileError::Refused(_) | CompileError::TookTooLong(_) => refused(error.to_string()),
        CompileError::Host(error) => host_failed(error),
    })?;
    let digest = workload.digest().to_string();
    let mut workloads = server.workloads.write().unwrap_or_else(PoisonError::into_inner);
    if workloads.len() >= WORKLOADS_MAX && !workloads.contains_key(&name) {
        return Err((StatusCode::INSUFFICIENT_STORAGE, format!("there is room for {WORKLOADS_MAX} workloads")));
    }
    workloads.insert(name, workload);
    Ok((StatusCode::CREATED, digest))
}

async fn execute(
    State(server): State<Arc<Server>>,
    Path((user, name)): Path<(Name, Name)>,
    input: Bytes,
) -> Result<(StatusCode, Json<Record>), Failure> {
    let workload = server.workloads.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    let workload = workload.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no workload is named `{name}`")))?;
    let request =
        ExecutionRequest::new(user, workload).input(input).grants(server.grants.clone()).budget(server.budget.clone());
    // A client that goes away drops this future, and that asks the execution to stop.
    let execution = server.runtime.execute(request).await;
    if let Some(cause) = execution.cause {
        eprintln!("execution {}: {cause}", execution.record.execution);
    }
    Ok((status(&execution.record.outcome), Json(execution.record)))
}

async fn list_notes(State(server): State<Arc<Server>>, Path(user): Path<Name>) -> Json<Vec<String>> {
    Json(server.notes.of(&user))
}

async fn list_live(State(server): State<Arc<Server>>) -> Json<serde_json::Value> {
    let live = server.runtime.live().into_iter();
    Json(live.map(|live| serde_json::json!({ "execution": live.execution, "user": live.user })).collect())
}

/// The record says more; this is for clients that only ask whether it worked, and whose fault it is.
fn status(outcome: &Outcome) -> StatusCode {
    match outcome {
        Outcome::Completed => StatusCode::OK,
        Outcome::GuestError | Outcome::Trapped | Outcome::BudgetExceeded(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Refused => StatusCode::FORBIDDEN,
        Outcome::Cancelled => StatusCode::CONFLICT,
        Outcome::HostError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The cause is for the operator, not for the user.
fn host_failed(cause: impl std::fmt::Debug) -> Failure {
    eprintln!("{cause:?}");
    (StatusCode::INTERNAL_SERVER_ERROR, "the host failed".to_owned())
}

/// The README's code is compiled like this example's.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
