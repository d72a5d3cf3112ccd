//! What is kept of an execution, always.

use std::time::SystemTime;

use holm_host_api::{BudgetName, FinishReport, JournalEntry, Meter, Name, Outcome};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Asked;
use crate::workload::Digest;

/// What is kept of an execution: always, of refused ones too.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Its id.
    pub execution: Uuid,
    /// Who it belonged to.
    pub user: Name,
    /// The session, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Name>,
    /// The program of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Name>,
    /// The profile it ran with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Name>,
    /// What ran.
    pub workload: WorkloadRecord,
    /// When it was asked for.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: SystemTime,
    /// How it ended.
    pub outcome: Outcome,
    /// The text that the workload returned or the command wrote to stdout; what is not UTF-8 is replaced.
    pub output: Option<String>,
    /// What went wrong, for the user.
    pub error: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// What went wrong while its capabilities finished.
    #[serde(skip_serializing_if = "nothing_failed")]
    pub finish: FinishReport,
}

/// Which workload ran.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadRecord {
    /// Digest of its bytes.
    pub digest: Digest,
}

/// What an execution used: one entry a budget, and a few that no budget limits.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    entries: Vec<(&'static str, u64)>,
    capabilities: Map<String, Value>,
}

/// A record, and what is not part of it.
#[derive(Debug)]
pub struct Execution {
    /// What is kept.
    pub record: Record,
    /// The output, byte for byte.
    pub output: Vec<u8>,
    /// Why the host failed, for the operator.
    pub cause: Option<String>,
    /// The host calls, if a journal was asked for.
    pub journal: Vec<JournalEntry>,
    /// Host calls that were more than it keeps.
    pub journal_missed: u64,
}

impl Usage {
    /// Reads the meter.
    pub(crate) fn read(meter: &Meter, cpu_ms: u64, capabilities: Map<String, Value>) -> Self {
        let mut entries = Vec::with_capacity(BudgetName::ALL.len() + 1);
        for name in BudgetName::ALL {
            let key = match name {
                BudgetName::MemoryBytes => "memory_bytes_peak",
                other => other.as_str(),
            };
            entries.push((key, meter.reading(*name)));
            if *name == BudgetName::WallMs {
                entries.push(("cpu_ms", cpu_ms));
            }
        }
        Usage { entries, capabilities }
    }

    /// One entry, by its name in the record, such as `fuel` or `memory_bytes_peak`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// What a capability says of its use, such as `llm`.
    pub fn capability(&self, name: &str) -> Option<&Value> {
        self.capabilities.get(name)
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len() + self.capabilities.len()))?;
        for (name, value) in &self.entries {
            map.serialize_entry(name, value)?;
        }
        for (name, value) in &self.capabilities {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Record {
    /// The record of an execution that never started. `digest` is that of the bytes that were refused.
    pub fn refused(execution: Uuid, user: Name, digest: Digest, error: String) -> Self {
        Record {
            execution,
            user,
            session: None,
            program: None,
            profile: None,
            workload: WorkloadRecord { digest },
            started_at: SystemTime::now(),
            outcome: Outcome::Refused,
            output: None,
            error: Some(error),
            usage: Usage::read(&Meter::new(Default::default()), 0, Map::new()),
            finish: FinishReport::default(),
        }
    }
}

impl Execution {
    /// An execution that ended before it had an instance.
    pub(crate) fn unstarted(
        Asked { request, at, .. }: &Asked,
        outcome: Outcome,
        error: String,
        cause: Option<String>,
    ) -> Self {
        let digest = *request.workload.digest();
        let record = Record {
            session: request.session.clone(),
            program: request.program.clone(),
            profile: request.profile.clone(),
            started_at: *at,
            outcome,
            ..Record::refused(request.execution, request.user.clone(), digest, error)
        };
        Execution { record, output: Vec::new(), cause, journal: Vec::new(), journal_missed: 0 }
    }
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

fn nothing_failed(report: &FinishReport) -> bool {
    report.failures.is_empty()
}
