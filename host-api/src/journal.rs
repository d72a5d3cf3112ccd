//! The ordered host calls of an execution with their results.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// Bytes of results that a journal keeps. What a guest reads over and over costs it fuel, and is kept each time.
const RESULT_BYTES_MAX: usize = 64 << 20;

/// One host call, as the guest saw it.
#[derive(Clone, Debug, Serialize)]
pub struct JournalEntry {
    /// Its place in the order of ends, from 0.
    pub sequence: u64,
    /// The capability.
    pub capability: &'static str,
    /// The function of the capability.
    pub function: &'static str,
    /// From entry to end, in microseconds.
    pub elapsed_us: u64,
    /// What the guest got.
    pub result: Result<Value, String>,
}

/// Keeps the journal of one execution, up to a number of entries and to 64 MiB of results; what comes after is counted.
#[derive(Debug)]
pub struct Journal {
    entries_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<JournalEntry>,
    sequence: u64,
    result_bytes: usize,
}

impl Journal {
    /// An empty journal.
    pub fn new(entries_max: usize) -> Self {
        Journal { entries_max, kept: Mutex::default() }
    }

    pub(crate) fn push(&self, mut entry: JournalEntry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        entry.sequence = kept.sequence;
        kept.sequence += 1;
        let complete = kept.entries.len() as u64 == entry.sequence;
        let result_bytes = kept.result_bytes + entry.result.as_ref().map_or_else(String::len, bytes);
        // A journal without a gap is one that can be followed to its end.
        if complete && kept.entries.len() < self.entries_max && result_bytes <= RESULT_BYTES_MAX {
            kept.result_bytes = result_bytes;
            kept.entries.push(entry);
        }
    }

    /// The entries so far, and how many more there were.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> (Vec<JournalEntry>, u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.entries.clone(), kept.sequence - kept.entries.len() as u64)
    }

    /// Takes the entries, and says how many more there were than it keeps.
    pub fn take(&self) -> (Vec<JournalEntry>, u64) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let missed = kept.sequence - kept.entries.len() as u64;
        (kept.entries, missed)
    }
}

/// About what a value takes.
fn bytes(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inner
}
