//! Strings: from a pattern, of a format, or readable.

use std::ops::Range;

use super::format;
use super::pattern::Patterns;
use super::shape::Shape;
use super::work::Work;
use crate::llm::memory::seed::Dice;
use crate::llm::memory::text::{more, remark};

/// Below so many characters a remark cannot be read, and its beginning would always be the same.
const REMARK_CHARS_MIN: u64 = 24;

/// Why no string was made.
pub(super) enum Fault {
    /// It would have more bytes than are left.
    TooLong,
    /// Nothing was found.
    NoneFits,
}

/// Makes strings about a topic.
pub(super) struct Strings<'s> {
    pub(super) topic: &'s str,
    pub(super) patterns: Patterns,
}

impl Strings<'_> {
    /// A string of the shape, of at most `bytes_max` bytes.
    pub(super) fn string(
        &mut self,
        shape: &Shape<'_>,
        label: &str,
        bytes_max: usize,
        dice: &mut Dice,
        work: &mut Work,
    ) -> Result<String, Fault> {
        let Range { start: least, end } = shape.length;
        if least >= end {
            return Err(Fault::NoneFits);
        }
        if least > bytes_max as u64 {
            return Err(Fault::TooLong);
        }
        let most = (end - 1).min(bytes_max as u64);
        if let Some(pattern) = dice.clone().pick(&shape.patterns) {
            // One that is not understood may still hold for any text; the check will tell.
            if let Some(text) = self.patterns.sample(pattern, (least, most), dice, work) {
                return Ok(text);
            }
        }
        match shape.format.and_then(|name| format::sample(name, label, dice)) {
            Some(text) if (least..=most).contains(&(text.chars().count() as u64)) => Ok(text),
            Some(_) => Err(Fault::NoneFits),
            None => Ok(readable(label, self.topic, dice, least, most)),
        }
    }
}

fn readable(label: &str, topic: &str, dice: &mut Dice, least: u64, most: u64) -> String {
    if most < REMARK_CHARS_MIN {
        let length = most.min(8).max(least).max(u64::from(most > 0));
        return (0..length).map(|_| char::from(b'a' + (dice.below(26) as u8))).collect();
    }
    let mut text = remark(label, topic, dice);
    let mut length = text.chars().count() as u64;
    while length < least {
        let next = more(dice);
        text.push_str("; ");
        text.push_str(next);
        length += next.chars().count() as u64 + 2;
    }
    let text: String = text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
    match text.trim_end() {
        trimmed if trimmed.chars().count() as u64 >= least => trimmed.to_owned(),
        _ => text,
    }
}
