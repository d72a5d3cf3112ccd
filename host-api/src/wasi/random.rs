//! Random bytes, within a budget.

use std::convert::Infallible;
use std::sync::Arc;

use rand::TryRng;

use crate::{BudgetName, Meter};

/// A list of random bytes is made one byte at a time, each through the meter.
const FUEL_PER_LISTED_BYTE: usize = 16;

/// Random bytes of the host, within `random_bytes`. Past it the guest gets none: the call that asked
/// ends the execution.
pub(super) struct MeteredRandom(pub(super) Arc<Meter>);

impl MeteredRandom {
    fn take(&self, bytes: usize, fuel: usize) -> bool {
        self.0.owe_fuel(fuel as u64);
        let taken = self.0.charge(BudgetName::RandomBytes, bytes as u64);
        taken.map_err(|exhausted| self.0.trip(exhausted)).is_ok()
    }
}

impl TryRng for MeteredRandom {
    type Error = Infallible;

    /// WASI makes a list of random bytes of these, and of each keeps one byte: the guest pays for what it
    /// gets, and in fuel for what that takes.
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.take(1, FUEL_PER_LISTED_BYTE) { rand::rng().try_next_u32() } else { Ok(0) }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        if self.take(8, 8) { rand::rng().try_next_u64() } else { Ok(0) }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        if self.take(bytes.len(), bytes.len()) { rand::rng().try_fill_bytes(bytes) } else { Ok(()) }
    }
}
