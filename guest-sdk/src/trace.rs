//! The trace: a tree of calls, and versioned objects with references to them.
//!
//! The host records requests to language models as children of the current call by itself: a workload traces only
//! its own steps.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::holm::host::trace as host;
use crate::{Error, Result, json};

/// A call that is open. Finish it with [`finish`](Call::finish) or [`fail`](Call::fail); one that is dropped ends
/// as abandoned, which is how a step that returned early with `?` shows in the trace.
#[must_use = "a call ends as abandoned when it is dropped"]
#[derive(Debug)]
pub struct Call(host::Call);

/// Starts a call as a child of the current one, which is the innermost that is still open.
///
/// ```no_run
/// # use holm_guest::trace;
/// let call = trace::call("brew", &"tea")?;
/// call.attribute("celsius", 85)?;
/// call.finish(&"a cup of tea")?;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn call<T: Serialize + ?Sized>(operation: &str, inputs: &T) -> Result<Call> {
    Ok(Call(host::start(operation, &json::write(operation, inputs)?)?))
}

/// Runs `body` within a call and finishes it with what `body` returns, be it a value or an error.
///
/// ```no_run
/// # use holm_guest::{Result, trace};
/// let cups = trace::scope("brew", &3, |call| -> Result<u32> {
///     call.attribute("celsius", 85)?;
///     Ok(3)
/// })?;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn scope<I, T, E>(operation: &str, inputs: &I, body: impl FnOnce(&Call) -> Result<T, E>) -> Result<T, E>
where
    I: Serialize + ?Sized,
    T: Serialize,
    E: Display + From<Error>,
{
    let call = call(operation, inputs)?;
    match body(&call) {
        Ok(value) => {
            call.finish(&value)?;
            Ok(value)
        }
        Err(error) => {
            // The error of the body is the one that the caller needs.
            let _ = call.fail(&error);
            Err(error)
        }
    }
}

impl Call {
    /// Starts a child of this call, whichever call is the current one: for steps that run side by side.
    pub fn child<T: Serialize + ?Sized>(&self, operation: &str, inputs: &T) -> Result<Call> {
        let inputs = json::write(operation, inputs)?;
        Ok(Call(self.0.child(operation, &inputs)?))
    }

    /// Notes a fact about this call.
    pub fn attribute(&self, key: &str, value: impl Display) -> Result<()> {
        Ok(self.0.set_attribute(key, &value.to_string())?)
    }

    /// Ends the call with its output.
    pub fn finish<T: Serialize + ?Sized>(self, output: &T) -> Result<()> {
        let output = json::write("output of a call", output)?;
        Ok(self.0.finish(Ok(&output))?)
    }

    /// Ends the call with an error.
    pub fn fail<E: Display + ?Sized>(self, error: &E) -> Result<()> {
        Ok(self.0.finish(Err(&format!("{error:#}")))?)
    }

    /// A reference to this call, for [`feedback`]; it stays good after the call ended.
    pub fn reference(&self) -> String {
        self.0.reference()
    }
}

/// Publishes a version of an object and returns a reference to it: the same content gives the same reference.
pub fn publish<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<String> {
    Ok(host::publish(name, &json::write(name, value)?)?)
}

/// Reads an object of this user's by reference; another user's does not exist.
pub fn resolve<T: DeserializeOwned>(reference: &str) -> Result<T> {
    json::read(reference, &host::resolve(reference)?)
}

/// Attaches a score, reaction or note to a call or an object.
///
/// ```no_run
/// # use holm_guest::trace;
/// # use serde_json::json;
/// # let call = trace::call("case", &1)?;
/// trace::feedback(&call.reference(), "score", &json!({ "correct": true }))?;
/// # Ok::<(), holm_guest::Error>(())
/// ```
pub fn feedback<T: Serialize + ?Sized>(reference: &str, kind: &str, payload: &T) -> Result<()> {
    Ok(host::feedback(reference, kind, &json::write(kind, payload)?)?)
}
