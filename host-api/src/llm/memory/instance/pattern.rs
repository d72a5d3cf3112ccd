//! Strings that match a regular expression, for the expressions that schemas are made of: literals,
//! classes, groups, alternatives and repetitions.

mod parse;

use std::collections::HashMap;

use super::work::Work;
use crate::llm::memory::seed::Dice;

/// Most characters of one string, and the lengths tried for what may repeat any number of times.
const CHARACTERS_MAX: u64 = 4_096;
const EXTRA_MAX: u64 = 256;

/// The expressions of a schema, each understood once.
#[derive(Default)]
pub(super) struct Patterns(HashMap<String, Option<Node>>);

/// A part of an expression.
enum Node {
    /// Any of these characters.
    Class(Vec<char>),
    /// Any of these sequences.
    Group(Vec<Vec<Node>>),
    /// So many times, from and to.
    Repeat(Box<Node>, u64, u64),
}

impl Patterns {
    /// A string of `least` to `most` characters that matches. `None` if none is found, or if the
    /// expression uses something that is not understood here.
    pub(super) fn sample(
        &mut self,
        pattern: &str,
        (least, most): (u64, u64),
        dice: &mut Dice,
        work: &mut Work,
    ) -> Option<String> {
        if !self.0.contains_key(pattern) {
            // Looking for the readable characters of its classes is the dear part.
            work.take(pattern.len() * 100)?;
            self.0.insert(pattern.to_owned(), parse::parse(pattern));
        }
        let expression = self.0.get(pattern)?.as_ref()?;
        let liked = 3 + dice.below(5);
        for extra in [liked].into_iter().chain(0..EXTRA_MAX).chain([least]) {
            let mut writer = Writer { text: String::new(), left: most.min(CHARACTERS_MAX), dice: dice.clone(), work };
            if writer.write(expression, extra).is_none() {
                if work.is_used_up() {
                    return None;
                }
                continue;
            }
            let mut text = writer.text;
            let mut length = text.chars().count() as u64;
            dice.roll();
            if !pattern.contains('$') {
                // What follows a match is free.
                let more = liked.max(least.saturating_sub(length)).min(most.saturating_sub(length)).min(CHARACTERS_MAX);
                text.extend((0..more).map(|_| char::from(b'a' + dice.below(26) as u8)));
                length += more;
            }
            if (least..=most).contains(&length) {
                return Some(text);
            }
        }
        None
    }
}

struct Writer<'w> {
    text: String,
    left: u64,
    dice: Dice,
    work: &'w mut Work,
}

impl Writer<'_> {
    fn write(&mut self, node: &Node, extra: u64) -> Option<()> {
        self.work.take(1)?;
        match node {
            Node::Class(characters) => {
                self.left = self.left.checked_sub(1)?;
                self.text.push(*characters.get(self.dice.below(characters.len() as u64) as usize)?);
            }
            Node::Group(alternatives) => {
                for node in self.dice.pick(alternatives)? {
                    self.write(node, extra)?;
                }
            }
            Node::Repeat(node, least, most) => {
                for _ in 0..(least.saturating_add(extra)).min(*most) {
                    let left = self.left;
                    self.write(node, extra)?;
                    // Repeating nothing gets nowhere.
                    if self.left == left {
                        break;
                    }
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;
    use crate::llm::memory::seed::Seed;

    #[test]
    fn samples_match_their_pattern_and_length() {
        let seed = Seed::of(&crate::llm::backend::Request::default());
        for (pattern, least, most) in [
            ("^[A-Z]{2,3}-\\d{4}$", 0, 100),
            ("^[a-z]+$", 20, 20),
            ("^(foo|ba[rz])(?:-[0-9a-f]{2})*$", 9, 30),
            ("^#[0-9a-fA-F]{6}$", 0, 7),
            ("^[^@\\s]+@[^@\\s]+\\.[a-z]{2,}$", 5, 40),
            ("^v?\\d+\\.\\d+\\.\\d+$", 0, 20),
            ("^[\\w.-]+$", 1, 64),
            ("[.]", 10, 10),
            ("^$", 0, 0),
            ("^\\S.*$", 3, 9),
            ("^[]a]$", 1, 1),
            ("^(a|b|)+$", 1, 5),
            ("^\\p{Lu}\\p{Ll}+$", 2, 12),
            ("^.{1,50}$", 1, 50),
        ] {
            let schema = serde_json::json!({ "pattern": pattern, "minLength": least, "maxLength": most });
            let schema = crate::llm::memory::AnswerSchema::parse(&schema.to_string());
            for variation in 0..20 {
                let mut dice = seed.at(pattern).dice(variation);
                let text = Patterns::default().sample(pattern, (least, most), &mut dice, &mut Work::default());
                let text = text.unwrap_or_else(|| format!("nothing for {pattern}"));
                schema.as_ref().map_or(Ok(()), |schema| schema.check(&text.into())).unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_others() {
        let mut dice = Seed::of(&crate::llm::backend::Request::default()).dice(0);
        let mut patterns = Patterns::default();
        let mut sample = |pattern: &str, lengths| patterns.sample(pattern, lengths, &mut dice, &mut Work::default());
        for pattern in ["(?=a)b", "(a", "[a", "a{", "a{x}", "\\b", "(?<n>a)", "*", "a**", &"(".repeat(50)] {
            assert_eq!(sample(pattern, (0, 10)), None, "{pattern}");
        }
        assert_eq!(sample("^a{1000000000}$", (0, 10)), None);
        assert_eq!(sample("^((((a*)*)*)*)*$", (5_000, 6_000)), None, "too long to be made, and given up soon");
    }
}
