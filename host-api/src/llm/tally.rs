//! What an execution used of language models, in all and by model, for its record.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::{Attempt, Usage};

/// Models that are told apart. A guest may name any; what is more is added up under [`OTHERS`].
const MODELS_MAX: usize = 32;

/// Provider and model of what is not told apart.
const OTHERS: &str = "(others)";

/// What an execution used. A request that was given up has neither failed nor an answer.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) cached: u64,
    attempts: u64,
    latency_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_microusd: u64,
    /// Answers of models whose price is not known.
    unpriced: u64,
    #[serde(serialize_with = "as_list", skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<(String, String), ModelTally>,
}

/// What an execution used of one model.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct ModelTally {
    /// Requests that it answered.
    requests: u64,
    cached: u64,
    attempts: u64,
    failed_attempts: u64,
    latency_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_microusd: u64,
}

impl Tally {
    /// A model gave the answer to a request.
    pub(super) fn answered(&mut self, provider: &str, model: &str, cached: bool) {
        self.cached += u64::from(cached);
        let tally = self.model(provider, model);
        tally.requests += 1;
        tally.cached += u64::from(cached);
    }

    /// A model wrote something, of use or not.
    pub(super) fn wrote(&mut self, provider: &str, model: &str, usage: Usage) {
        self.unpriced += u64::from(usage.cost_microusd.is_none());
        let tally = self.model(provider, model);
        tally.input_tokens = tally.input_tokens.saturating_add(usage.input_tokens);
        tally.output_tokens = tally.output_tokens.saturating_add(usage.output_tokens);
        tally.cost_microusd = tally.cost_microusd.saturating_add(usage.cost_microusd.unwrap_or(0));
    }

    /// Models were tried.
    pub(super) fn tried(&mut self, attempts: &[Attempt]) {
        for attempt in attempts {
            self.attempts += 1;
            self.latency_ms = self.latency_ms.saturating_add(attempt.latency_ms);
            let tally = self.model(&attempt.provider, &attempt.model);
            tally.attempts += 1;
            tally.failed_attempts += u64::from(attempt.failure.is_some());
            tally.latency_ms = tally.latency_ms.saturating_add(attempt.latency_ms);
        }
    }

    /// Somebody, known or not, is owed this.
    pub(super) fn used(&mut self, usage: Usage) {
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(usage.cost_microusd.unwrap_or(0));
    }

    fn model(&mut self, provider: &str, model: &str) -> &mut ModelTally {
        let mut key = (provider.to_owned(), model.to_owned());
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(&key) {
            key = (OTHERS.to_owned(), OTHERS.to_owned());
        }
        self.models.entry(key).or_default()
    }
}

fn as_list<S: Serializer>(models: &BTreeMap<(String, String), ModelTally>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        provider: &'a str,
        model: &'a str,
        #[serde(flatten)]
        tally: ModelTally,
    }
    serializer.collect_seq(models.iter().map(|((provider, model), tally)| Entry { provider, model, tally: *tally }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_apart_up_to_a_number() {
        let mut tally = Tally::default();
        let usage = Usage { input_tokens: 1, output_tokens: 2, cost_microusd: Some(3) };
        for number in 0..100 {
            tally.wrote("p", &format!("m{number}"), usage);
        }
        assert_eq!(tally.models.len(), MODELS_MAX + 1);
        let in_all: u64 = tally.models.values().map(|model| model.cost_microusd).sum();
        assert_eq!(in_all, 300);
    }
}
