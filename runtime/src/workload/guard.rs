//! Keeps a panic of somebody else's parser from ending more than one upload.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::IntakeError;

/// Runs a parser on bytes that were made to break it, perhaps.
///
/// # Errors
/// It panicked. The panic hook has said where; `stage` says in which parser.
pub(super) fn guarded<T>(stage: &'static str, parse: impl FnOnce() -> T) -> Result<T, IntakeError> {
    // Nothing that `parse` may have left half done is seen again: it works on shared bytes and on
    // values of its own, which a panic drops.
    catch_unwind(AssertUnwindSafe(parse)).map_err(|_panic| IntakeError::Broke { stage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic, reason = "the point of the test")]
    fn a_panic_becomes_a_refusal() {
        assert_eq!(
            guarded("a parser", || panic!("not for the user")),
            Err::<(), _>(IntakeError::Broke { stage: "a parser" })
        );
    }
}
