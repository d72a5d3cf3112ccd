//! The schema of an answer, parsed and checked within bounds. It comes from a guest, so neither reading
//! it nor checking against it may cost more than a fixed amount of work.

mod effort;
mod places;
mod survey;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

pub(super) use effort::Effort;
pub(super) use places::resolve;
use survey::PATTERNS_MAX;
pub(super) use survey::schemas;

use crate::llm::backend::{LlmError, SCHEMA_BYTES_MAX};

/// Memory for one compiled `pattern`, in bytes. The time to compile it follows from that.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Longest part of a validator's message that is passed on, in bytes: it may quote the whole answer.
const MESSAGE_BYTES_MAX: usize = 300;

/// The response schema of a request, ready to check answers.
///
/// It is JSON schema (drafts 6 to 2020-12, `format` asserted) but for what makes the cost of a check
/// depend on more than schema and answer: no reference leaves the document, none is dynamic, and
/// patterns have neither look-around nor back-references.
pub struct AnswerSchema {
    document: Value,
    validator: Validator,
    fuel_owed: AtomicU64,
}

/// Fuel for a schema that is read and compiled: for any, for each of its bytes and for each of its patterns.
const FUEL_PER_SCHEMA: u64 = 50_000;
const FUEL_PER_SCHEMA_BYTE: u64 = 500;
const FUEL_PER_PATTERN: u64 = 750_000;

/// Fuel for a byte of answer that is read, and for a step of a check, which is made twice.
const FUEL_PER_ANSWER_BYTE: u64 = 8;
const FUEL_PER_STEP: u64 = 200;

/// Where an answer does not match, and why.
pub(super) struct Mismatch {
    /// JSON pointer into the answer.
    pub(super) at: String,
    /// One clause, for the user.
    pub(super) why: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.why),
            at => write!(f, "at {}: {}", shorten(at), self.why),
        }
    }
}

impl AnswerSchema {
    /// Reads a schema from its text.
    ///
    /// # Errors
    /// [`LlmError::Invalid`] if the text is no JSON schema, uses something that is not supported, or is
    /// too large.
    pub fn parse(text: &str) -> Result<Self, LlmError> {
        Self::try_parse(text).map_err(|why| LlmError::Invalid(format!("`response_schema` {why}")))
    }

    fn try_parse(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!("has {} bytes; {SCHEMA_BYTES_MAX} are allowed", text.len()));
        }
        let mut document: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        if let Some(root) = document.as_object_mut() {
            // Nothing refers to the document by its name, and a name could shadow a standard schema.
            root.remove("$id");
        }
        survey::survey(&document)?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&document)
            .map_err(|error| format!("is not a JSON schema that can be used: {}", shorten(&error.to_string())))?;
        let fuel_owed = AtomicU64::new(Self::fuel_to_parse(text));
        Ok(AnswerSchema { document, validator, fuel_owed })
    }

    /// Fuel for reading this text, also where it turns out to be no schema.
    pub fn fuel_to_parse(text: &str) -> u64 {
        if text.len() > SCHEMA_BYTES_MAX {
            return 0;
        }
        // A keyword may be written in escapes, and one keyword may hold many patterns.
        let many = ["patternProperties", "\\u006", "\\u007"].iter().any(|sign| text.contains(sign));
        let patterns = if many { PATTERNS_MAX } else { text.matches("\"pattern\"").count().min(PATTERNS_MAX) };
        FUEL_PER_SCHEMA + text.len() as u64 * FUEL_PER_SCHEMA_BYTE + patterns as u64 * FUEL_PER_PATTERN
    }

    /// Fuel for the work since it was last asked: reading the schema and checking answers. A router owes it
    /// for the guest ([`Router::take_fuel_owed`](crate::llm::Router::take_fuel_owed)).
    pub fn take_fuel_owed(&self) -> u64 {
        self.fuel_owed.swap(0, Ordering::Relaxed)
    }

    pub(super) fn owe_fuel(&self, units: u64) {
        self.fuel_owed.fetch_add(units, Ordering::Relaxed);
    }

    /// Checks an answer.
    ///
    /// # Errors
    /// [`LlmError::SchemaMismatch`] says where it does not match, or that checking it costs too much.
    pub fn check(&self, answer: &Value) -> Result<(), LlmError> {
        self.check_within(answer, &mut Effort::default())
            .map_err(|mismatch| LlmError::SchemaMismatch(mismatch.to_string()))
    }

    /// Reads an answer from what a model wrote, and checks it.
    ///
    /// # Errors
    /// [`LlmError::SchemaMismatch`] if the text is not JSON or does not match.
    pub fn read(&self, text: &str) -> Result<Value, LlmError> {
        self.owe_fuel(text.len() as u64 * FUEL_PER_ANSWER_BYTE);
        let answer =
            serde_json::from_str(text).map_err(|error| LlmError::SchemaMismatch(format!("it is not JSON: {error}")))?;
        self.check(&answer).map(|()| answer)
    }

    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    pub(super) fn check_within(&self, answer: &Value, effort: &mut Effort) -> Result<(), Mismatch> {
        let left = effort.left();
        let taken = effort.take(&self.document, answer);
        self.owe_fuel(left.saturating_sub(effort.left()) * FUEL_PER_STEP);
        taken?;
        self.validator
            .validate(answer)
            .map_err(|error| Mismatch { at: error.instance_path().to_string(), why: shorten(&error.to_string()) })
    }
}

impl fmt::Debug for AnswerSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerSchema").field("document", &self.document).finish_non_exhaustive()
    }
}

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    format!("{}…", message.get(..message.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests;
