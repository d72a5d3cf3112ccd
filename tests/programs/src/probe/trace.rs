//! Actions on `trace`.

use holm_guest::trace;
use serde_json::{Value, json};

use crate::{Input, Outcome, run};

pub fn call(operation: &str, inputs: &Value, step: Option<Input>) -> Outcome {
    trace::scope(operation, inputs, |_| step.map_or(Ok(Value::Null), |step| run(step)))
}

pub fn nested(depth: usize) -> Outcome {
    let mut calls = Vec::with_capacity(depth);
    for level in 0..depth {
        let call = trace::call(&format!("level {level}"), &level)?;
        call.attribute("level", level)?;
        calls.push(call);
    }
    while let Some(call) = calls.pop() {
        call.finish(&calls.len())?;
    }
    Ok(json!(depth))
}

pub fn abandon(operation: &str) -> Outcome {
    drop(trace::call(operation, &Value::Null)?);
    Ok(Value::Null)
}

pub fn leave_open(operation: &str) -> Outcome {
    std::mem::forget(trace::call(operation, &Value::Null)?);
    Ok(Value::Null)
}

pub fn publish(name: &str, value: &Value) -> Outcome {
    Ok(json!(trace::publish(name, value)?))
}

pub fn resolve(reference: &str) -> Outcome {
    Ok(trace::resolve(reference)?)
}

/// Returns the reference.
pub fn feedback(reference: Option<String>, kind: &str, payload: &Value) -> Outcome {
    let reference = match reference {
        Some(reference) => reference,
        None => {
            let call = trace::call("feedback", payload)?;
            let reference = call.reference();
            call.finish(&Value::Null)?;
            reference
        }
    };
    trace::feedback(&reference, kind, payload)?;
    Ok(json!(reference))
}
