//! What a worker is told before it gets the bytes: one line of JSON.

use std::io::{BufRead, Read as _};

use serde::{Deserialize, Serialize};

use super::CompileLimits;

/// Longest order, in bytes.
const ORDER_BYTES_MAX: u64 = 4096;

/// Exit statuses of a worker other than 0, which says that the code is on stdout.
pub(super) mod status {
    /// The bytes cannot be compiled; stderr says why, for the user.
    pub(in super::super) const REFUSED: u8 = 3;
    /// The bytes made the compiler panic; stderr says how, for the operator.
    pub(in super::super) const BROKE: u8 = 4;
    /// The worker could not do its work, whatever the bytes are; stderr says why, for the operator.
    pub(in super::super) const FAILED: u8 = 6;
}

/// What is asked of a worker. The component follows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Name of the engine's configuration that the code is for.
    pub(super) engine: String,
    /// Size of the component that follows, in bytes.
    pub(super) component_bytes: u64,
    /// What compiling it may take.
    pub(super) limits: CompileLimits,
}

impl Order {
    /// The order as it is sent.
    pub(super) fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads one order and not a byte more; `None` if that is not what comes.
    pub(super) fn read(from: &mut impl BufRead) -> Option<Order> {
        let mut line = Vec::new();
        from.take(ORDER_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written_and_what_follows_is_left() {
        let order = Order { engine: "e".into(), component_bytes: 4, limits: CompileLimits::default() };
        let sent = [order.line().unwrap(), b"rest".to_vec()].concat();
        let mut from = sent.as_slice();
        assert_eq!(Order::read(&mut from), Some(order));
        assert_eq!(from, b"rest");
    }

    #[test]
    fn nonsense_is_no_order() {
        let endless = vec![b'x'; 1 << 20];
        for mut nonsense in [&b""[..], b"\n", b"{}\n", b"\0asm\r\0\x01\0", &endless] {
            assert_eq!(Order::read(&mut nonsense), None);
        }
    }
}
