//! What requests may use and what they used: taken before a request, settled after it, added up for the record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::context::Failure;
use super::{LlmError, Price, Request, Response, Usage};
use crate::{BudgetName, Denied, Meter};

/// The longest answer, in tokens, of a request that does not say.
const OUTPUT_TOKENS_DEFAULT: u64 = 4_096;

/// Bytes of answer that count as one token where nobody counted them.
const BYTES_PER_TOKEN: u64 = 3;

/// What an execution used, for its record. A request that was given up has neither failed nor an answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) cached: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_microusd: u64,
}

/// The requests of one execution add up here.
#[derive(Clone, Default)]
pub(super) struct Spending(Arc<Mutex<Tally>>);

impl Spending {
    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the input will cost, by a conservative estimate, and the longest answer. Where less is left,
    /// the longest answer is what is left. The request says so: what was not taken must not be written.
    pub(super) fn reserve(
        &self,
        meter: &Arc<Meter>,
        request: &mut Request,
        price: Option<Price>,
    ) -> Result<Reservation, Denied> {
        let input = request.input_tokens_estimate();
        let mut output = request.max_tokens.map_or(OUTPUT_TOKENS_DEFAULT, u64::from);
        if let Some(left) = meter.left(BudgetName::LlmTokens) {
            // With nothing left for an answer the request is denied below.
            output = output.min(left.saturating_sub(input)).max(1);
            request.max_tokens = Some(u32::try_from(output).unwrap_or(u32::MAX));
        }
        let mut reservation = self.reserve_tokens(meter, input, output)?;
        reservation.price = price;
        Ok(reservation)
    }

    /// Takes these tokens, unless the money is spent.
    pub(super) fn reserve_tokens(&self, meter: &Arc<Meter>, input: u64, output: u64) -> Result<Reservation, Denied> {
        let spent = meter.used(BudgetName::LlmCostMicrousd);
        if spent >= meter.budget().limit(BudgetName::LlmCostMicrousd) {
            return Err(meter.refuse(BudgetName::LlmCostMicrousd, spent).into());
        }
        meter.charge(BudgetName::LlmTokens, input.saturating_add(output))?;
        let (meter, spending) = (Arc::clone(meter), self.clone());
        Ok(Reservation { meter, spending, input, output, price: None, sent: false, given_bytes: 0, settled: false })
    }
}

/// Tokens that were taken before a request and are settled after it, so that requests under way at once cannot
/// spend the same ones.
///
/// Dropped without an answer it keeps what the request used by then: nothing before it was sent, and after that
/// the input as it was estimated and what the guest was given of the answer. Otherwise a guest that hangs up
/// before the end would never pay.
pub(super) struct Reservation {
    meter: Arc<Meter>,
    spending: Spending,
    input: u64,
    output: u64,
    price: Option<Price>,
    sent: bool,
    given_bytes: u64,
    settled: bool,
}

impl Reservation {
    /// From here on the provider may bill the request.
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// The guest is given so much more of the answer.
    pub(super) fn given(&mut self, bytes: usize) {
        self.given_bytes = self.given_bytes.saturating_add(bytes as u64);
    }

    /// The request was answered.
    pub(super) fn answered(mut self, response: &Response) {
        self.spending.lock().cached += u64::from(response.cached);
        self.keep(response.usage);
    }

    /// The request was answered, and nobody counted what it used.
    pub(super) fn answered_as_estimated(mut self) {
        self.keep(self.used_so_far());
    }

    /// The request failed.
    pub(super) fn failed(mut self, failure: &Failure) {
        self.spending.lock().failed += 1;
        self.keep(self.used_by_failure(failure));
    }

    fn used_by_failure(&self, failure: &Failure) -> Usage {
        match failure {
            Failure::Llm(LlmError::Unavailable(_) | LlmError::NoProvider(_) | LlmError::Invalid(_))
                if self.given_bytes == 0 =>
            {
                Usage::default()
            }
            // An answer was written and is of no use. How long it was, nobody says.
            Failure::Llm(LlmError::SchemaMismatch(_)) => self.priced(self.output.min(OUTPUT_TOKENS_DEFAULT)),
            _ => self.used_so_far(),
        }
    }

    fn used_so_far(&self) -> Usage {
        if self.sent { self.priced(self.given_bytes.div_ceil(BYTES_PER_TOKEN)) } else { Usage::default() }
    }

    fn priced(&self, output_tokens: u64) -> Usage {
        let cost = |price: Price| price.of(self.input, output_tokens);
        Usage { input_tokens: self.input, output_tokens, cost_microusd: self.price.map(cost) }
    }

    /// What a provider says of its usage may be any number.
    fn keep(&mut self, usage: Usage) {
        self.settled = true;
        let (taken, used) =
            (self.input.saturating_add(self.output), usage.input_tokens.saturating_add(usage.output_tokens));
        let cost = usage.cost_microusd.unwrap_or(0);
        self.meter.release(BudgetName::LlmTokens, taken.saturating_sub(used));
        self.meter.overdraw(BudgetName::LlmTokens, used.saturating_sub(taken));
        self.meter.overdraw(BudgetName::LlmCostMicrousd, cost);
        let mut tally = self.spending.lock();
        tally.input_tokens = tally.input_tokens.saturating_add(usage.input_tokens);
        tally.output_tokens = tally.output_tokens.saturating_add(usage.output_tokens);
        tally.cost_microusd = tally.cost_microusd.saturating_add(cost);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.keep(self.used_so_far());
        }
    }
}
