//! Which outcome an ending is.

use holm_host_api::{BudgetName, Exhausted, HostError, Meter, Outcome, sanitize_line};
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::invoke::Stopped;

/// Frames of a guest's stack that an error shows.
const FRAMES_MAX: usize = 8;

/// An ending, judged.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// What the workload returned; a command's output is what it wrote.
    pub(super) returned: Option<String>,
    /// For the user.
    pub(super) error: Option<String>,
    /// For the operator.
    pub(super) cause: Option<String>,
}

impl Verdict {
    fn new(outcome: Outcome, error: impl Into<Option<String>>) -> Self {
        Verdict { outcome, returned: None, error: error.into(), cause: None }
    }
}

/// Judges how a run stopped.
///
/// A guest that fails after a budget refused it something failed of that: the outcome names the budget,
/// and the guest's own words stay in the error. A guest that was asked to stop was cancelled, whatever
/// it did next, unless a budget or the host ended it.
pub(super) fn classify(stopped: Stopped, meter: &Meter, cancelled: bool) -> Verdict {
    let mut verdict = match stopped {
        Stopped::Returned(Ok(output)) => return_output(output, meter),
        Stopped::Returned(Err(error)) => Verdict::new(Outcome::GuestError, error),
        Stopped::Exited(Ok(())) => Verdict::new(Outcome::Completed, None),
        Stopped::Exited(Err(())) => exited(1),
        Stopped::Failed(error) => failed(&error, meter),
        Stopped::Panicked => {
            Verdict::new(Outcome::HostError, "the host failed while it worked for this execution".to_owned())
        }
        Stopped::Cancelled => Verdict::new(Outcome::Cancelled, "cancelled".to_owned()),
        Stopped::Deadline => exceeded(meter.refuse(BudgetName::WallMs, meter.used(BudgetName::WallMs))),
    };
    match verdict.outcome {
        Outcome::Completed | Outcome::GuestError | Outcome::Trapped if cancelled => {
            verdict.outcome = Outcome::Cancelled;
            verdict.error = Some("cancelled".to_owned());
        }
        Outcome::GuestError | Outcome::Trapped => {
            if let Some(exhausted) = meter.refused() {
                verdict.outcome = Outcome::BudgetExceeded(exhausted);
            }
        }
        _ => {}
    }
    verdict
}

fn return_output(output: String, meter: &Meter) -> Verdict {
    match meter.charge(BudgetName::OutputBytes, output.len() as u64) {
        Ok(()) => Verdict { returned: Some(output), ..Verdict::new(Outcome::Completed, None) },
        Err(exhausted) => exceeded(Exhausted { used: output.len() as u64, ..exhausted }),
    }
}

fn exceeded(exhausted: Exhausted) -> Verdict {
    Verdict::new(Outcome::BudgetExceeded(exhausted), exhausted.to_string())
}

fn exited(status: i32) -> Verdict {
    match status {
        0 => Verdict::new(Outcome::Completed, None),
        // What comes of preview 1 has lost its status on the way.
        1 => Verdict::new(Outcome::GuestError, "the command failed".to_owned()),
        status => Verdict::new(Outcome::GuestError, format!("the command exited with status {status}")),
    }
}

fn failed(error: &wasmtime::Error, meter: &Meter) -> Verdict {
    if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
        return exceeded(*exhausted);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return exited(*status);
    }
    if let Some(error) = error.downcast_ref::<HostError>() {
        return Verdict { cause: error.cause(), ..Verdict::new(Outcome::HostError, error.message().to_owned()) };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        let message = "the host has no room for another instance of this shape now".to_owned();
        return Verdict { cause: Some(format!("{error:#}")), ..Verdict::new(Outcome::HostError, message) };
    }
    // What a guest may see of files it sees as values: this is the host's own, such as no memory.
    let errno = || error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.kind());
    if let Some(failed) = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or_else(errno) {
        let message = format!("the host failed: {failed}");
        return Verdict { cause: Some(format!("{error:#}")), ..Verdict::new(Outcome::HostError, message) };
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        let limit = meter.limit(BudgetName::Handles);
        return exceeded(meter.refuse(BudgetName::Handles, limit));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => exceeded(meter.refuse(BudgetName::Fuel, meter.limit(BudgetName::Fuel))),
        Some(trap) => Verdict::new(Outcome::Trapped, with_frames(&trap.to_string(), error)),
        None => other_failure(error, meter),
    }
}

/// What wasmtime says without a type: values that do not lift or lower, and counts of its own.
fn other_failure(error: &wasmtime::Error, meter: &Meter) -> Verdict {
    let reason = error.root_cause().to_string();
    if reason.starts_with("resource limit exceeded") {
        let limit = meter.limit(BudgetName::Instances);
        return exceeded(meter.refuse(BudgetName::Instances, limit));
    }
    // One request for more random bytes than the whole budget has: WASI answers before the meter does.
    if reason.starts_with("requested len") && reason.contains("exceeds limit") {
        return exceeded(meter.refuse(BudgetName::RandomBytes, meter.used(BudgetName::RandomBytes)));
    }
    Verdict::new(Outcome::Trapped, with_frames(&reason, error))
}

/// The reason in the first line, then where the guest was. Names come from the guest.
fn with_frames(reason: &str, error: &wasmtime::Error) -> String {
    let mut text = sanitize_line(reason.trim_start_matches("wasm trap: ")).into_owned();
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    for frame in frames.iter().take(FRAMES_MAX) {
        let symbol = frame.symbols().first().and_then(|symbol| symbol.name());
        text.push_str("\n  at ");
        match symbol.or(frame.func_name()) {
            Some(name) => text.push_str(&sanitize_line(&name.chars().take(120).collect::<String>())),
            None => text.push_str(&format!("function {}, which has no name", frame.func_index())),
        }
    }
    if frames.len() > FRAMES_MAX {
        text.push_str("\n  …");
    }
    text
}
