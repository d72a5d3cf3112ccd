//! What a trace costs its execution: `trace_calls` and `trace_bytes`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::Json;
use crate::{BudgetName, Denied, Meter};

/// What an attribute, an object or feedback is charged beyond its own bytes, so that many tiny ones cost
/// about what they take. A call needs no such charge: `trace_calls` bounds their number.
pub(super) const ENTRY_BYTES: usize = 64;

/// Charges what is kept before it is kept. What a guest asks for is denied when a budget runs out; what the
/// host records by itself is left out and counted, and the guest never hears of it.
pub(super) struct Charges {
    meter: Arc<Meter>,
    dropped_calls: AtomicU64,
    dropped_bytes: AtomicU64,
}

impl Charges {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Charges { meter, dropped_calls: AtomicU64::new(0), dropped_bytes: AtomicU64::new(0) }
    }

    /// Bytes of the guest's.
    pub(super) fn bytes(&self, amount: usize) -> Result<(), Denied> {
        Ok(self.meter.charge(BudgetName::TraceBytes, count(amount))?)
    }

    /// A guest's text as JSON, together with `label_bytes`: its size is charged before it is parsed, and
    /// after that what escaping added to it.
    pub(super) fn json(&self, label_bytes: usize, text: &str) -> Result<Json, Denied> {
        let size = label_bytes.saturating_add(text.len());
        self.bytes(size)?;
        let json = Json::from_text(text);
        let added = json.as_str().len().saturating_sub(text.len());
        if added > 0 {
            self.bytes(added).inspect_err(|_| self.meter.release(BudgetName::TraceBytes, count(size)))?;
        }
        Ok(json)
    }

    /// A call of the guest's. Gives its inputs.
    pub(super) fn call(&self, operation: &str, inputs: &str) -> Result<Json, Denied> {
        self.meter.charge(BudgetName::TraceCalls, 1)?;
        self.json(operation.len(), inputs).inspect_err(|_| self.meter.release(BudgetName::TraceCalls, 1))
    }

    /// A call of the host's. Gives its inputs, or `None` if it is dropped.
    pub(super) fn host_call(&self, operation: &str, inputs: &Value) -> Option<Json> {
        let inputs =
            self.take_quietly(BudgetName::TraceCalls, 1).then(|| Json::from_value(inputs)).and_then(|inputs| {
                let size = operation.len() + inputs.as_str().len();
                if self.take_quietly(BudgetName::TraceBytes, count(size)) {
                    return Some(inputs);
                }
                self.meter.release(BudgetName::TraceCalls, 1);
                None
            });
        if inputs.is_none() {
            self.dropped_calls.fetch_add(1, Ordering::Relaxed);
        }
        inputs
    }

    /// `kept`, if the budget has `size` bytes for it; else they are dropped.
    pub(super) fn fits<T>(&self, size: usize, kept: T) -> Option<T> {
        let taken = self.take_quietly(BudgetName::TraceBytes, count(size));
        if !taken {
            self.dropped_bytes.fetch_add(count(size), Ordering::Relaxed);
        }
        taken.then_some(kept)
    }

    /// What was dropped, as attributes.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (String, Json)> {
        [("dropped_calls", &self.dropped_calls), ("dropped_bytes", &self.dropped_bytes)]
            .into_iter()
            .map(|(key, dropped)| (key, dropped.load(Ordering::Relaxed)))
            .filter(|(_, dropped)| *dropped > 0)
            .map(|(key, dropped)| (key.to_owned(), Json::from(dropped)))
    }

    /// A refusal is not remembered as a budget that ran out: nothing that the guest did was refused.
    fn take_quietly(&self, name: BudgetName, amount: u64) -> bool {
        let taken = self.meter.charge_up_to(name, amount);
        if taken < amount {
            self.meter.release(name, taken);
        }
        taken == amount
    }
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Budget;

    fn charges(calls: u64, bytes: u64) -> Charges {
        let budget = Budget::default().with(BudgetName::TraceCalls, calls).with(BudgetName::TraceBytes, bytes);
        Charges::new(Arc::new(Meter::new(budget)))
    }

    #[test]
    fn the_larger_of_text_and_json_is_charged() {
        for (text, charged) in [(" [ 1 ] ", 7), ("1e3", 6), ("hi", 4), ("\0", 8)] {
            let charges = charges(1, 100);
            charges.json(0, text).unwrap();
            assert_eq!(charges.meter.used(BudgetName::TraceBytes), charged, "{text:?}");
        }
    }

    #[test]
    fn what_is_denied_costs_nothing() {
        let charges = charges(2, 10);
        assert!(charges.call("op", "\"123456789\"").is_err());
        assert!(charges.json(0, "\0\0").is_err());
        assert_eq!(charges.host_call("op", &json!("123456789")), None);
        assert_eq!(charges.fits(11, ()), None);
        assert_eq!(charges.meter.used(BudgetName::TraceCalls), 0);
        assert_eq!(charges.meter.used(BudgetName::TraceBytes), 0);
        charges.call("op", "12345678").unwrap();
    }

    #[test]
    fn what_the_host_drops_is_counted_and_no_refusal() {
        let charges = charges(1, 10);
        charges.host_call("op", &json!("1")).unwrap();
        assert_eq!(charges.host_call("op", &json!("1")), None);
        assert_eq!(charges.fits(6, ()), None);
        assert_eq!(charges.fits(5, ()), Some(()));
        let dropped: Vec<_> = charges.dropped().collect();
        assert_eq!(dropped, [("dropped_calls".to_owned(), Json::from(1)), ("dropped_bytes".to_owned(), Json::from(6))]);
        assert_eq!(charges.meter.refused(), None);
    }
}
