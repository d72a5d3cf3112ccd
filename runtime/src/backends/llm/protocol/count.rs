//! Numbers of tokens, as providers give them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// More than any model reads or writes for one request: what is above it is a mistake, or a lie.
const TOKENS_MAX: u64 = 10_000_000;

/// A number of tokens; nothing where it is missing, or is no number of tokens. An answer is not thrown away because its
/// bill is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Count(pub(in super::super) Option<u64>);

impl Count {
    /// Both together; what is missing adds nothing.
    pub(in super::super) fn plus(self, other: Count) -> Count {
        match (self.0, other.0) {
            (Some(one), Some(other)) => Count(Some(one.saturating_add(other))),
            (one, other) => Count(one.or(other)),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tokens")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
        Ok(Count(Some(number).filter(|number| *number <= TOKENS_MAX)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(number).ok().filter(|number| *number <= TOKENS_MAX)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Count, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Count, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_tokens_is_nothing() {
        let read = |json: &str| serde_json::from_str::<Count>(json).unwrap().0;
        assert_eq!((read("0"), read("17")), (Some(0), Some(17)));
        for wrong in ["-5", "1e300", "2.5", "18446744073709551615", "\"12\"", "null", "true", "[1,2]", "{\"a\":[1]}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
