//! The end of an execution: classify it, finish its capabilities, take its record, let go of the rest.

use std::time::Duration;

use holm_host_api::{Ending, FinishReport, Journal, Outcome, sanitize_text};

use super::classify::{Verdict, classify};
use super::invoke::{Stopped, millis};
use super::{Execution, Instantiated, Record, Usage, WorkloadRecord};

/// An execution whose guest will never run again.
pub(crate) struct Ended {
    instance: Instantiated,
    verdict: Verdict,
    cpu: Duration,
}

impl Ended {
    pub(super) fn new(instance: Instantiated, stopped: Stopped, cpu: Duration) -> Self {
        let gate = &instance.gate;
        let mut verdict = classify(stopped, gate.meter(), gate.scope().cancellation.is_cancelled());
        if verdict.outcome == Outcome::Trapped
            && let (Some(trap), Some(said)) = (&mut verdict.error, gate.last_error())
        {
            trap.push_str("\nthe last error that it logged: ");
            trap.push_str(&sanitize_text(&said));
        }
        Ended { instance, verdict, cpu }
    }

    /// Finishes every capability, in reverse order, each within its time; then drops the store, and removes
    /// the scratch folder that the guest had open until then.
    pub(crate) async fn finish(mut self, finish_time_max: Duration) -> Execution {
        let mut opened = self.instance.store.data_mut().close();
        let output = self.verdict.returned.take().map(String::into_bytes);
        let ending = Ending {
            outcome: self.verdict.outcome,
            output: output.unwrap_or_else(|| self.instance.stdout.take()),
            error: self.verdict.error.take(),
        };
        let report = holm_host_api::finish(&mut opened, &ending, finish_time_max).await;
        let scratch = self.instance.scratch.take();
        let mut execution = self.into_execution(ending, report);
        if let Some(folder) = scratch
            && let Err(error) = folder.remove().await
        {
            tracing::error!(execution = %execution.record.execution, "a scratch folder cannot be removed: {error}");
            execution.record.finish.failures.push("scratch: the folder could not be removed".to_owned());
        }
        execution
    }

    fn into_execution(self, ending: Ending, mut finish: FinishReport) -> Execution {
        let Ended { instance, verdict, cpu } = self;
        let Instantiated { store, asked, gate, .. } = instance;
        let request = &asked.request;
        drop(store);
        let record = Record {
            execution: request.execution,
            user: request.user.clone(),
            session: request.session.clone(),
            program: request.program.clone(),
            profile: request.profile.clone(),
            workload: WorkloadRecord { digest: *request.workload.digest() },
            started_at: asked.at,
            outcome: ending.outcome,
            output: Some(String::from_utf8_lossy(&ending.output).into_owned()),
            error: ending.error,
            usage: Usage::read(gate.meter(), millis(cpu), std::mem::take(&mut finish.usage)),
            finish,
        };
        let (journal, journal_missed) = gate.journal().map(Journal::take).unwrap_or_default();
        Execution { record, output: ending.output, cause: verdict.cause, journal, journal_missed }
    }
}
