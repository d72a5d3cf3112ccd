//! Where the guests are that the tests run. Building this crate builds them.

/// Does what its input says, with every capability: see `tests/programs/src/probe`.
pub const PROBE: &str = env!("GUEST_PROBE");

/// A WASI command: upper-cases stdin.
pub const COMMAND: &str = env!("GUEST_COMMAND");
