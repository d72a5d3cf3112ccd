//! A bound on the work that making one answer takes, whatever the schema.

/// Steps for one request. A step takes some tens of nanoseconds.
const STEPS_MAX: u64 = 300_000;

/// The steps that are left. Once a part of the work found too few, there are none.
pub(super) struct Work(u64);

impl Default for Work {
    fn default() -> Self {
        Work(STEPS_MAX)
    }
}

impl Work {
    /// Takes steps, or gives up.
    pub(super) fn take(&mut self, steps: usize) -> Option<()> {
        let left = self.0.checked_sub(steps as u64);
        self.0 = left.unwrap_or(0);
        left.map(|_| ())
    }

    /// The steps that were taken.
    pub(super) fn taken(&self) -> u64 {
        STEPS_MAX - self.0
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.0 == 0
    }
}
