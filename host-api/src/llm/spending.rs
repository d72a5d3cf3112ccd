//! What requests may use and what they used: taken before a request, settled after it, added up for the record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::Failure;
use super::tally::Tally;
use super::{Attempt, Embeddings, LlmError, Price, Request, Response, Usage};
use crate::{BudgetName, Denied, Meter};

/// The longest answer, in tokens, of a request that does not say.
const OUTPUT_TOKENS_DEFAULT: u64 = 4_096;

/// Bytes of answer that count as one token where nobody counted them.
const BYTES_PER_TOKEN: u64 = 3;

/// The requests of one execution add up here.
#[derive(Clone, Default)]
pub(super) struct Spending(Arc<Mutex<Tally>>);

impl Spending {
    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the input will cost, by a conservative estimate, and the longest answer, in tokens and in money. Where
    /// less is left, the longest answer is what is left. The request says so: what was not taken must not be written.
    pub(super) fn reserve(
        &self,
        meter: &Arc<Meter>,
        request: &mut Request,
        price: Option<Price>,
    ) -> Result<Reservation, Denied> {
        let taken = take(meter, request, price)?;
        Ok(self.reservation(meter, taken, price))
    }

    /// Takes the tokens of texts to embed.
    pub(super) fn reserve_input(
        &self,
        meter: &Arc<Meter>,
        input: u64,
        price: Option<Price>,
    ) -> Result<Reservation, Denied> {
        let taken = take_tokens(meter, input, 0, price)?;
        Ok(self.reservation(meter, taken, price))
    }

    fn reservation(&self, meter: &Arc<Meter>, taken: Taken, price: Option<Price>) -> Reservation {
        let (meter, spending) = (Arc::clone(meter), self.clone());
        Reservation { meter, spending, taken, price, in_rounds: false, sent: false, given_bytes: 0, settled: false }
    }
}

/// What was taken from the budget.
#[derive(Clone, Copy)]
struct Taken {
    input: u64,
    output: u64,
    cost: u64,
}

fn take(meter: &Meter, request: &mut Request, price: Option<Price>) -> Result<Taken, Denied> {
    let input = request.input_tokens_estimate();
    let mut output = request.max_tokens.map_or(OUTPUT_TOKENS_DEFAULT, u64::from);
    let payable = meter.left(BudgetName::LlmCostMicrousd).zip(price);
    let payable = payable.map(|(left, price)| price.output_tokens_within(input, left));
    let left = meter.left(BudgetName::LlmTokens).map(|left| left.saturating_sub(input));
    if let Some(most) = [left, payable].into_iter().flatten().min() {
        // With nothing left for an answer the request is denied below.
        output = output.min(most).max(1);
        request.max_tokens = Some(u32::try_from(output).unwrap_or(u32::MAX));
    }
    take_tokens(meter, input, output, price)
}

/// Takes these tokens and their price, unless the money is spent.
fn take_tokens(meter: &Meter, input: u64, output: u64, price: Option<Price>) -> Result<Taken, Denied> {
    let spent = meter.used(BudgetName::LlmCostMicrousd);
    if spent >= meter.limit(BudgetName::LlmCostMicrousd) {
        return Err(meter.refuse(BudgetName::LlmCostMicrousd, spent).into());
    }
    let cost = price.map_or(0, |price| price.of(input, output));
    let tokens = input.saturating_add(output);
    meter.charge_all(&[(BudgetName::LlmTokens, tokens), (BudgetName::LlmCostMicrousd, cost)])?;
    Ok(Taken { input, output, cost })
}

/// Tokens and money that were taken before a request and are settled after it, so that requests under way at once cannot
/// spend the same ones.
///
/// Dropped without an answer it keeps what the request used by then: nothing before it was sent, and after that
/// the input as it was estimated and what the guest was given of the answer. Otherwise a guest that hangs up
/// before the end would never pay.
pub(super) struct Reservation {
    meter: Arc<Meter>,
    spending: Spending,
    /// What was taken for the round under way.
    taken: Taken,
    price: Option<Price>,
    /// Rounds are over, and settled: a model that is asked again was paid for what it said first.
    in_rounds: bool,
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

    /// A round is over with this answer, of use or not.
    pub(super) fn round_used(&mut self, response: &Response) {
        self.spending.lock().wrote(&response.provider, &response.model, response.usage);
        self.keep(response.usage);
        self.in_rounds = true;
    }

    /// The model is asked again.
    pub(super) fn another_round(&mut self, request: &mut Request) -> Result<(), Denied> {
        self.taken = take(&self.meter, request, self.price)?;
        (self.sent, self.settled) = (true, false);
        Ok(())
    }

    /// Models were tried that did not give the answer.
    pub(super) fn tried(&self, attempts: &[Attempt]) {
        self.spending.lock().tried(attempts);
    }

    /// The request was answered.
    pub(super) fn answered(mut self, response: &Response) {
        self.tried(&response.attempts);
        if !self.in_rounds {
            self.round_used(response);
        }
        self.spending.lock().answered(&response.provider, &response.model, response.cached);
    }

    /// The texts were embedded.
    pub(super) fn embedded(mut self, embeddings: &Embeddings) {
        let usage = embeddings.usage.unwrap_or_else(|| self.used_so_far());
        self.tried(&embeddings.attempts);
        let mut tally = self.spending.lock();
        tally.wrote(&embeddings.provider, &embeddings.model, usage);
        tally.answered(&embeddings.provider, &embeddings.model, false);
        drop(tally);
        self.keep(usage);
    }

    /// The request failed.
    pub(super) fn failed(mut self, failure: &Failure) {
        if let Failure::Llm(LlmError::AllFailed(attempts) | LlmError::NotBegun(attempts)) = failure {
            self.tried(attempts);
        }
        self.spending.lock().failed += 1;
        if !self.settled {
            self.keep(self.used_by_failure(failure));
        }
    }

    fn used_by_failure(&self, failure: &Failure) -> Usage {
        match failure {
            Failure::Llm(
                LlmError::Unavailable(_) | LlmError::NoProvider(_) | LlmError::Invalid(_) | LlmError::NotBegun(_),
            ) if self.given_bytes == 0 => Usage::default(),
            // An answer was written and is of no use. How long it was, nobody says.
            Failure::Llm(LlmError::SchemaMismatch(_)) => self.priced(self.taken.output.min(OUTPUT_TOKENS_DEFAULT)),
            _ => self.used_so_far(),
        }
    }

    fn used_so_far(&self) -> Usage {
        if !self.sent {
            return Usage::default();
        }
        self.priced(self.given_bytes.div_ceil(BYTES_PER_TOKEN))
    }

    /// The round under way, with an answer of so many tokens.
    fn priced(&self, output_tokens: u64) -> Usage {
        let input_tokens = self.taken.input;
        let cost = |price: Price| price.of(input_tokens, output_tokens);
        Usage { input_tokens, output_tokens, cost_microusd: self.price.map(cost) }
    }

    /// What a provider says of its usage may be any number.
    fn keep(&mut self, usage: Usage) {
        self.settled = true;
        let used = usage.input_tokens.saturating_add(usage.output_tokens);
        self.settle(BudgetName::LlmTokens, self.taken.input.saturating_add(self.taken.output), used);
        self.settle(BudgetName::LlmCostMicrousd, self.taken.cost, usage.cost_microusd.unwrap_or(0));
        self.spending.lock().used(usage);
    }

    fn settle(&self, name: BudgetName, taken: u64, used: u64) {
        self.meter.release(name, taken.saturating_sub(used));
        self.meter.overdraw(name, used.saturating_sub(taken));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.keep(self.used_so_far());
        }
    }
}
