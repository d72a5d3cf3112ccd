//! The one error of this crate.

use std::fmt;

use crate::bindings::holm::host::{llm, types};
use crate::llm::Attempt;

/// What can go wrong in a call to the host, or in the JSON around it.
///
/// A denial is a value and never a trap: a workload can go on without what it was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The user's grants do not include this.
    NotGranted(String),
    /// A budget of the execution ran out. The numbers are in the budget's own unit.
    BudgetExceeded {
        /// The budget's name, such as `llm_tokens`.
        budget: String,
        /// What the execution was given.
        limit: u64,
        /// What it has used.
        used: u64,
    },
    /// The arguments make no sense; the text says which and why.
    Invalid(String),
    /// The service behind the capability cannot answer now.
    Unavailable(String),
    /// The execution's deadline passed while the call waited.
    TimedOut,
    /// The caller asked the execution to stop while the call waited.
    Cancelled,
    /// The user's context has no provider for this request.
    NoProvider(String),
    /// The model's answer does not match the response schema.
    SchemaMismatch(String),
    /// The model or its provider refused to answer.
    Refused(String),
    /// Every provider of the fallback chain failed; what each said.
    AllFailed(Vec<Attempt>),
    /// A value could not be written as JSON, or a text could not be read as the type that was asked for.
    Json(String),
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotGranted(what) => write!(f, "not granted: {what}"),
            Error::BudgetExceeded { budget, limit, used } => {
                write!(f, "budget exceeded: {budget}, limit {limit}, used {used}")
            }
            Error::Invalid(why) => write!(f, "invalid: {why}"),
            Error::Unavailable(why) => write!(f, "unavailable: {why}"),
            Error::TimedOut => f.write_str("timed out"),
            Error::Cancelled => f.write_str("cancelled"),
            Error::NoProvider(why) => write!(f, "no provider: {why}"),
            Error::SchemaMismatch(why) => write!(f, "schema mismatch: {why}"),
            Error::Refused(why) => write!(f, "refused: {why}"),
            Error::AllFailed(attempts) => {
                f.write_str("all providers failed")?;
                // What one said several times is there once.
                let key =
                    |attempt: &Attempt| (attempt.provider.clone(), attempt.model.clone(), attempt.failure.clone());
                for (index, alike) in attempts.chunk_by(|one, next| key(one) == key(next)).enumerate() {
                    let separator = if index == 0 { ':' } else { ';' };
                    let Some(attempt) = alike.first() else { continue };
                    let failure = attempt.failure.as_deref().unwrap_or("no answer");
                    write!(f, "{separator} {}/{}: {failure}", attempt.provider, attempt.model)?;
                    if alike.len() > 1 {
                        write!(f, " ({} times)", alike.len())?;
                    }
                }
                Ok(())
            }
            Error::Json(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// So that `?` works in a workload whose error is a text.
impl From<Error> for String {
    fn from(error: Error) -> String {
        error.to_string()
    }
}

impl From<types::Denied> for Error {
    fn from(denied: types::Denied) -> Error {
        match denied {
            types::Denied::NotGranted(what) => Error::NotGranted(what),
            types::Denied::Exhausted(exhausted) => {
                Error::BudgetExceeded { budget: exhausted.budget, limit: exhausted.limit, used: exhausted.used }
            }
            types::Denied::Invalid(why) => Error::Invalid(why),
            types::Denied::Unavailable(why) => Error::Unavailable(why),
            types::Denied::TimedOut => Error::TimedOut,
            types::Denied::Cancelled => Error::Cancelled,
        }
    }
}

impl From<llm::Error> for Error {
    fn from(error: llm::Error) -> Error {
        match error {
            llm::Error::Denied(denied) => denied.into(),
            llm::Error::NoProvider(why) => Error::NoProvider(why),
            llm::Error::SchemaMismatch(why) => Error::SchemaMismatch(why),
            llm::Error::Refused(why) => Error::Refused(why),
            llm::Error::AllFailed(attempts) => Error::AllFailed(attempts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_read_as_the_host_writes_them() {
        let exhausted =
            types::Denied::Exhausted(types::Exhausted { budget: "llm_tokens".into(), limit: 10_000, used: 10_000 });
        assert_eq!(Error::from(exhausted).to_string(), "budget exceeded: llm_tokens, limit 10000, used 10000");
        assert_eq!(Error::from(types::Denied::NotGranted("llm".into())).to_string(), "not granted: llm");
    }

    #[test]
    fn every_failed_attempt_is_named() {
        let attempt = |provider: &str, failure: Option<&str>| Attempt {
            provider: provider.into(),
            model: "m".into(),
            latency_ms: 1,
            failure: failure.map(String::from),
        };
        let overloaded = || attempt("a", Some("overloaded"));
        let error = Error::AllFailed(vec![overloaded(), overloaded(), attempt("b", None)]);
        assert_eq!(error.to_string(), "all providers failed: a/m: overloaded (2 times); b/m: no answer");
        assert_eq!(Error::AllFailed(vec![]).to_string(), "all providers failed");
    }
}
