//! What no provider can answer is refused before anybody is asked.

use std::collections::HashSet;

use super::{LlmError, Request, SCHEMA_BYTES_MAX, skim};

/// Longest name of a model, in bytes. The longest real ones are addresses at AWS.
const MODEL_BYTES_MAX: usize = 512;

impl Request {
    /// Refuses what no provider can answer, so that every backend refuses the same.
    ///
    /// # Errors
    /// [`LlmError::Invalid`], saying which field is wrong and why.
    pub fn check(&self) -> Result<(), LlmError> {
        let invalid = |what: &str| Err(LlmError::Invalid(what.to_owned()));
        if self.messages.is_empty() {
            return invalid("`messages` is empty; a request needs at least one");
        }
        check_model(self.model.as_deref())?;
        if self.max_tokens == Some(0) {
            return invalid("`max_tokens` is 0; leave it out for the usual limit");
        }
        if self.temperature.is_some_and(|degrees| !(0.0..=2.0).contains(&degrees)) {
            return invalid("`temperature` must be between 0 and 2");
        }
        if self.stop.iter().any(String::is_empty) {
            return invalid("`stop` holds an empty text");
        }
        let mut names = HashSet::new();
        for tool in &self.tools {
            if tool.name.is_empty() || !names.insert(&tool.name) {
                return invalid("`tools` must have names, each its own");
            }
        }
        // All sizes before any content: what is too large is not looked at.
        let schemas = || self.tools.iter().map(|tool| &tool.parameters_schema);
        for (what, schema) in schemas()
            .map(|schema| ("parameters_schema", schema))
            .chain(self.response_schema.iter().map(|schema| ("response_schema", schema)))
        {
            if schema.len() > SCHEMA_BYTES_MAX {
                return invalid(&format!("`{what}` has {} bytes; {SCHEMA_BYTES_MAX} are allowed", schema.len()));
            }
        }
        if schemas().any(|schema| !skim::is_json_object(schema)) {
            return invalid("`parameters_schema` of a tool must be a JSON object");
        }
        Ok(())
    }
}

/// The name goes into addresses, errors and records.
pub(in super::super) fn check_model(model: Option<&str>) -> Result<(), LlmError> {
    match model {
        Some(model) if model.len() > MODEL_BYTES_MAX => {
            let what = format!("`model` has {} bytes; {MODEL_BYTES_MAX} are allowed", model.len());
            Err(LlmError::Invalid(what))
        }
        Some(model) if model.is_empty() || model.contains(char::is_control) => {
            Err(LlmError::Invalid("`model` must be a name; leave it out for the usual one".to_owned()))
        }
        _ => Ok(()),
    }
}
