//! What a router is built from.

/// How long to wait for a provider, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect_ms: u64,
    /// From the beginning to the answer's head, or to the first event of a stream.
    pub first_token_ms: u64,
    /// For the whole answer, from the beginning.
    pub answer_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect_ms: 5_000, first_token_ms: 60_000, answer_ms: 300_000 }
    }
}
