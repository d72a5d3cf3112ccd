//! Every limit of one execution, in one place: the names, their units and defaults, and the meter
//! that counts against them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use enum_map::{Enum, EnumMap};
use serde::{Deserialize, Serialize};

/// How a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Everything ever used adds up.
    Total,
    /// What is held at one time; giving back makes room again. Usage reports the peak.
    Held,
}

macro_rules! budgets {
    ($($variant:ident $name:literal $counting:ident $default:expr, $meaning:literal;)*) => {
        /// The name of one budget.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enum, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum BudgetName {
            $(#[doc = $meaning] $variant,)*
        }

        impl BudgetName {
            /// All budgets, in the order in which they are shown.
            pub const ALL: &'static [BudgetName] = &[$(BudgetName::$variant),*];

            /// The name in records, messages and options; it ends in its unit.
            pub fn as_str(self) -> &'static str {
                match self { $(BudgetName::$variant => $name),* }
            }

            /// How it counts.
            pub fn counting(self) -> Counting {
                match self { $(BudgetName::$variant => Counting::$counting),* }
            }

            /// The limit where nobody sets one.
            pub fn default_limit(self) -> u64 {
                match self { $(BudgetName::$variant => $default),* }
            }

            /// What it limits, for `runtime limits`.
            pub fn meaning(self) -> &'static str {
                match self { $(BudgetName::$variant => $meaning),* }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

budgets! {
    Fuel "fuel" Total 10_000_000_000,
        "Compute, in units of about one Wasm instruction; a billion is about a second. Host calls cost fuel for the host's work.";
    WallMs "wall_ms" Total 30_000,
        "Wall time from instantiation to the end, in milliseconds, waiting included.";
    MemoryBytes "memory_bytes" Held 256 * MIB,
        "Linear memory, summed over all memories of the execution.";
    TableElements "table_elements" Held 200_000,
        "Elements, summed over all tables of the execution.";
    Instances "instances" Total 500,
        "Core instances that the component is made of.";
    Handles "handles" Held 1_000,
        "Host resources that the guest holds at one time: streams, files, pollables, trace calls, requests.";
    HostCalls "host_calls" Total 10_000_000,
        "Calls from the guest to the host, WASI's included.";
    InputBytes "input_bytes" Total 16 * MIB,
        "Size of the input.";
    OutputBytes "output_bytes" Total 16 * MIB,
        "Size of the output: what the workload returns, or what a command writes to stdout.";
    LogBytes "log_bytes" Total MIB,
        "Log lines and stderr; for a workload with an entry point its stdout too.";
    LogLines "log_lines" Total 100_000,
        "Lines of the log.";
    RandomBytes "random_bytes" Total 16 * MIB,
        "Random bytes asked of the host.";
    ScratchBytes "scratch_bytes" Held 64 * MIB,
        "Sizes of all files in the scratch folder, holes included, for as long as any is there or open.";
    ScratchFiles "scratch_files" Held 1_000,
        "Files, folders and links in the scratch folder, for as long as any is there or open.";
    Events "events" Total 10_000,
        "Events and progress reports.";
    EventBytes "event_bytes" Total 4 * MIB,
        "Bytes of all events and progress reports.";
    TraceCalls "trace_calls" Total 10_000,
        "Calls in the trace, those that the host records for the guest included.";
    TraceBytes "trace_bytes" Total 16 * MIB,
        "Inputs, outputs, attributes, objects and feedback in the trace.";
    LlmRequests "llm_requests" Total 1_000,
        "Requests to language models.";
    LlmRequestsOpen "llm_requests_open" Held 64,
        "Requests to language models that are under way or whose answers the guest has not fetched.";
    LlmRequestBytes "llm_request_bytes" Total 64 * MIB,
        "Bytes of all requests to language models.";
    LlmTokens "llm_tokens" Total 1_000_000,
        "Tokens of language models, input and output together.";
    LlmCostMicrousd "llm_cost_microusd" Total 10_000_000,
        "Cost of language models, in millionths of a US dollar.";
}

impl fmt::Display for BudgetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No budget has this name.
#[derive(Debug, thiserror::Error)]
#[error("no budget is named `{0}`; `runtime limits` lists them")]
pub struct UnknownBudget(String);

impl FromStr for BudgetName {
    type Err = UnknownBudget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        BudgetName::ALL
            .iter()
            .copied()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownBudget(text.chars().take(64).flat_map(char::escape_debug).collect()))
    }
}

/// A budget that ran out: its name, its limit and what was used, in the budget's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("budget exceeded: {budget}, limit {limit}, used {used}")]
pub struct Exhausted {
    /// Which budget.
    pub budget: BudgetName,
    /// Its limit.
    pub limit: u64,
    /// What was used when it refused more.
    pub used: u64,
}

/// The limits of one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    limits: EnumMap<BudgetName, u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { limits: EnumMap::from_fn(BudgetName::default_limit) }
    }
}

impl Budget {
    /// A limit that is never reached.
    pub const UNLIMITED: u64 = u64::MAX;

    /// The limit of one budget, in its own unit.
    pub fn limit(&self, name: BudgetName) -> u64 {
        self.limits[name]
    }

    /// Sets one limit.
    pub fn set(&mut self, name: BudgetName, limit: u64) -> &mut Self {
        self.limits[name] = limit;
        self
    }

    /// The same with one limit set.
    #[must_use]
    pub fn with(mut self, name: BudgetName, limit: u64) -> Self {
        self.set(name, limit);
        self
    }
}

/// Counts what one execution uses and refuses what passes a limit. Shared by everything that works
/// for the execution; nothing in it blocks.
#[derive(Debug)]
pub struct Meter {
    limits: EnumMap<BudgetName, AtomicU64>,
    used: EnumMap<BudgetName, AtomicU64>,
    peak: EnumMap<BudgetName, AtomicU64>,
    /// Fuel that the host's work cost and that was not yet taken from the store.
    fuel_owed: AtomicU64,
    refused: Mutex<Option<Exhausted>>,
    /// Apart from `refused`: what is refused afterwards must not take its place.
    tripped: OnceLock<Exhausted>,
}

impl Meter {
    /// A meter at zero.
    pub fn new(budget: Budget) -> Self {
        Meter {
            limits: EnumMap::from_fn(|name| AtomicU64::new(budget.limit(name))),
            used: EnumMap::default(),
            peak: EnumMap::default(),
            fuel_owed: AtomicU64::new(0),
            refused: Mutex::new(None),
            tripped: OnceLock::new(),
        }
    }

    /// The limit of one budget, in its own unit.
    pub fn limit(&self, name: BudgetName) -> u64 {
        self.limits[name].load(Ordering::Relaxed)
    }

    /// Lowers a limit, where a capability's backend allows less than the budget. What is higher changes nothing.
    pub fn tighten(&self, name: BudgetName, limit: u64) {
        self.limits[name].fetch_min(limit, Ordering::Relaxed);
    }

    /// Takes `amount` of a budget: all or nothing.
    ///
    /// # Errors
    /// The budget has less than `amount` left. The meter remembers it: see [`Meter::refused`].
    pub fn charge(&self, name: BudgetName, amount: u64) -> Result<(), Exhausted> {
        let limit = self.limit(name);
        let taken = self.used[name].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(amount).filter(|sum| *sum <= limit)
        });
        match taken {
            Ok(used) => {
                if name.counting() == Counting::Held {
                    self.peak[name].fetch_max(used.saturating_add(amount), Ordering::Relaxed);
                }
                Ok(())
            }
            Err(used) => Err(self.refuse(name, used)),
        }
    }

    /// Takes from several budgets: from all of them or from none.
    ///
    /// # Errors
    /// One of them has less left than is asked of it.
    pub fn charge_all(&self, charges: &[(BudgetName, u64)]) -> Result<(), Exhausted> {
        for (at, &(name, amount)) in charges.iter().enumerate() {
            self.charge(name, amount).inspect_err(|_| self.release_all(charges.get(..at).unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Takes as much of `amount` as is left, and says how much that was.
    pub fn charge_up_to(&self, name: BudgetName, amount: u64) -> u64 {
        let limit = self.limit(name);
        let mut taken = 0;
        let _ = self.used[name].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            taken = amount.min(limit.saturating_sub(used));
            Some(used.saturating_add(taken))
        });
        taken
    }

    /// Gives back what was charged: a held thing that is gone, or the rest of a reservation.
    pub fn release(&self, name: BudgetName, amount: u64) {
        let _ = self.used[name]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(amount)));
    }

    /// Gives back what was charged with [`Meter::charge_all`].
    pub fn release_all(&self, charges: &[(BudgetName, u64)]) {
        charges.iter().for_each(|&(name, amount)| self.release(name, amount));
    }

    /// Adds what was used beyond a reservation. It cannot be refused any more; the next charge will be.
    pub fn overdraw(&self, name: BudgetName, amount: u64) {
        let _ = self.used[name]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_add(amount)));
    }

    /// States a reading that is measured elsewhere: fuel, time, handles.
    pub fn set(&self, name: BudgetName, used: u64) {
        self.used[name].store(used, Ordering::Relaxed);
        if name.counting() == Counting::Held {
            self.peak[name].fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Remembers that a budget ran out, and makes the error that says so.
    pub fn refuse(&self, name: BudgetName, used: u64) -> Exhausted {
        let exhausted = Exhausted { budget: name, limit: self.limit(name), used };
        *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(exhausted);
        exhausted
    }

    /// The budget that refused something last, if any did.
    pub fn refused(&self) -> Option<Exhausted> {
        *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Marks a refusal that the guest cannot be told as a value: nothing more is done for the execution,
    /// which ends when the host call under way returns. The first refusal counts.
    pub fn trip(&self, exhausted: Exhausted) {
        let _ = self.tripped.set(exhausted);
    }

    /// The refusal that ends the execution, if there was one.
    pub fn tripped(&self) -> Option<Exhausted> {
        self.tripped.get().copied()
    }

    /// What counts against the limit now.
    pub fn used(&self, name: BudgetName) -> u64 {
        self.used[name].load(Ordering::Relaxed)
    }

    /// What a record reports: the total, or the peak of what was held.
    pub fn reading(&self, name: BudgetName) -> u64 {
        match name.counting() {
            Counting::Total => self.used(name),
            Counting::Held => self.peak[name].load(Ordering::Relaxed),
        }
    }

    /// What is left; `None` is unlimited.
    pub fn left(&self, name: BudgetName) -> Option<u64> {
        match self.limit(name) {
            Budget::UNLIMITED => None,
            limit => Some(limit.saturating_sub(self.used(name))),
        }
    }

    /// Bills the host's own work in fuel. It is taken from the store when the host call returns.
    pub fn owe_fuel(&self, units: u64) {
        self.fuel_owed.fetch_add(units, Ordering::Relaxed);
    }

    /// The fuel owed so far.
    pub fn fuel_owed(&self) -> u64 {
        self.fuel_owed.load(Ordering::Relaxed)
    }

    /// Takes the whole fuel debt, to settle it.
    pub fn take_fuel_owed(&self) -> u64 {
        self.fuel_owed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_are_unique() {
        for name in BudgetName::ALL {
            assert_eq!(name.as_str().parse::<BudgetName>().unwrap(), *name);
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
        assert!("fule".parse::<BudgetName>().is_err());
    }

    #[test]
    fn a_charge_is_all_or_nothing() {
        let meter = Meter::new(Budget::default().with(BudgetName::LlmTokens, 10));
        meter.charge(BudgetName::LlmTokens, 7).unwrap();
        let refused = meter.charge(BudgetName::LlmTokens, 4).unwrap_err();
        assert_eq!(refused.to_string(), "budget exceeded: llm_tokens, limit 10, used 7");
        assert_eq!(meter.refused(), Some(refused));
        meter.charge(BudgetName::LlmTokens, 3).unwrap();
        assert_eq!(meter.charge_up_to(BudgetName::LlmTokens, 5), 0);
    }

    #[test]
    fn several_charges_are_all_or_nothing_too() {
        let meter = Meter::new(Budget::default().with(BudgetName::Events, 2).with(BudgetName::EventBytes, 10));
        let charge = |bytes| meter.charge_all(&[(BudgetName::Events, 1), (BudgetName::EventBytes, bytes)]);
        charge(4).unwrap();
        assert_eq!(charge(7).unwrap_err().to_string(), "budget exceeded: event_bytes, limit 10, used 4");
        assert_eq!((meter.used(BudgetName::Events), meter.used(BudgetName::EventBytes)), (1, 4));
        charge(6).unwrap();
        assert_eq!(charge(0).unwrap_err().budget, BudgetName::Events);
    }

    #[test]
    fn what_ends_the_execution_is_not_forgotten_for_what_is_refused_after_it() {
        let meter = Meter::new(Budget::default().with(BudgetName::HostCalls, 0).with(BudgetName::Events, 0));
        let first = meter.charge(BudgetName::HostCalls, 1).unwrap_err();
        meter.trip(first);
        meter.trip(meter.charge(BudgetName::Events, 1).unwrap_err());
        assert_eq!((meter.tripped(), meter.refused().unwrap().budget), (Some(first), BudgetName::Events));
    }

    #[test]
    fn held_budgets_report_their_peak() {
        let meter = Meter::new(Budget::default());
        meter.charge(BudgetName::MemoryBytes, 100).unwrap();
        meter.release(BudgetName::MemoryBytes, 60);
        meter.charge(BudgetName::MemoryBytes, 10).unwrap();
        assert_eq!((meter.used(BudgetName::MemoryBytes), meter.reading(BudgetName::MemoryBytes)), (50, 100));
    }

    #[test]
    fn a_limit_can_be_lowered_and_not_raised() {
        let meter = Meter::new(Budget::default().with(BudgetName::LlmTokens, 10));
        meter.tighten(BudgetName::LlmTokens, 100);
        assert_eq!(meter.limit(BudgetName::LlmTokens), 10);
        meter.tighten(BudgetName::LlmTokens, 5);
        assert_eq!(meter.charge(BudgetName::LlmTokens, 6).unwrap_err().limit, 5);
        assert_eq!(meter.left(BudgetName::LlmTokens), Some(5));
    }

    #[test]
    fn an_overflowing_charge_is_refused() {
        let meter = Meter::new(Budget::default().with(BudgetName::Events, Budget::UNLIMITED));
        meter.charge(BudgetName::Events, 1).unwrap();
        assert!(meter.charge(BudgetName::Events, u64::MAX).is_err());
        assert_eq!(meter.left(BudgetName::Events), None);
    }
}
