//! Where the variety of the answers comes from: the request and nothing else.

use std::io;

use sha2::{Digest as _, Sha256};

use crate::llm::backend::Request;

/// A number that stands for a request, or for a place in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u64);

impl Seed {
    /// The seed of a request: the beginning of the SHA-256 of its JSON. `max_tokens` is not in it: a lower
    /// limit, as the host sets it when a budget runs short, ends an answer and does not make it another.
    pub(super) fn of(request: &Request) -> Self {
        let Request { messages, tier, model, max_tokens: _, temperature, stop, tools, response_schema } = request;
        let asked = (messages, tier, model, temperature, stop, tools, response_schema);
        struct Sink(Sha256);
        impl io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        // Buffered: the serializer writes a few bytes at a time.
        let mut sink = io::BufWriter::new(Sink(Sha256::new()));
        let written = serde_json::to_writer(&mut sink, &asked).is_ok();
        let digest = match sink.into_inner() {
            Ok(Sink(hash)) if written => hash.finalize(),
            _ => Sha256::digest(b"a request that has no JSON"),
        };
        Seed(digest.first_chunk().copied().map_or(0, u64::from_be_bytes))
    }

    /// The seed of one place in the answer: what happens elsewhere in it does not change this place.
    pub(super) fn at(self, place: &str) -> Self {
        Seed(scramble(self.0 ^ hash(place.as_bytes())))
    }

    /// Dice that always fall the same for the same seed and variation.
    pub(super) fn dice(self, variation: u32) -> Dice {
        Dice { state: self.0, rest: variation }
    }

    /// Six hexadecimal digits of it.
    pub(super) fn tag(self) -> String {
        format!("{:06x}", self.0 >> 40)
    }
}

/// Makes the choices at one place. Counting the variation up goes through all combinations of the
/// choices, so that a combination that is right is found if there is one.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
    rest: u32,
}

impl Dice {
    /// Any number.
    pub(super) fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.state ^ scramble(u64::from(self.rest)))
    }

    /// A number below `count`, or 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.roll().checked_rem(count).unwrap_or(0)
    }

    /// One of the options, the variation deciding which comes after the first.
    pub(super) fn pick<'a, T>(&mut self, options: &'a [T]) -> Option<&'a T> {
        let first = Dice { rest: 0, ..self.clone() }.below(options.len() as u64);
        self.roll();
        self.pick_from(options, first)
    }

    /// The first option, unless the variation says a later one.
    pub(super) fn pick_in_order<'a, T>(&mut self, options: &'a [T]) -> Option<&'a T> {
        self.pick_from(options, 0)
    }

    fn pick_from<'a, T>(&mut self, options: &'a [T], first: u64) -> Option<&'a T> {
        let count = u32::try_from(options.len()).ok().filter(|count| *count > 0)?;
        let chosen = (first + u64::from(self.rest % count)) % u64::from(count);
        self.rest /= count;
        options.get(usize::try_from(chosen).ok()?)
    }
}

/// FNV-1a: the same on every machine and in every version, which the standard hasher does not promise.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// Makes near numbers far: the last step of splitmix64.
pub(super) fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
