//! The words of an answer, and where it ends.

use super::seed::{Dice, Seed};
use crate::llm::backend::{FinishReason, Request};

/// Words and bytes of the user that an answer quotes at most.
const QUOTED_WORDS_MAX: usize = 8;
const QUOTED_BYTES_MAX: usize = 60;

/// Bytes of answer that count as one token.
const BYTES_PER_TOKEN: u64 = 4;

const OPENINGS: [&str; 6] = ["On", "About", "As to", "Regarding", "Thinking about", "Concerning"];

const THOUGHTS: [&str; 14] = [
    "a small trial would show most of what there is to know",
    "the first thing to settle is who needs it",
    "the cost is the open question",
    "it holds up better than it seems at first",
    "one weak point is that nobody has measured it",
    "the plainest form of it is the strongest",
    "half of it can be done this week",
    "what is missing is a way to tell whether it works",
    "it would help those who have the least time",
    "two things in it should be kept apart",
    "the risk lies in doing all of it at once",
    "somebody close to the matter should be asked",
    "it is worth doing if it stays simple",
    "there is an easier way to the same end",
];

/// A few words of what the user said, to quote in the answer. Letters, digits and little else are kept.
pub(super) fn topic(said: &str) -> String {
    // "Idea: a bakery for night owls" is about the bakery.
    let label = said.split_once(':').filter(|(label, rest)| label.len() <= 40 && words(rest).nth(2).is_some());
    let mut quoted = String::new();
    for word in words(label.map_or(said, |(_, rest)| rest)).take(QUOTED_WORDS_MAX) {
        if quoted.len() + word.len() >= QUOTED_BYTES_MAX {
            break;
        }
        if !quoted.is_empty() {
            quoted.push(' ');
        }
        quoted.push_str(word);
    }
    if quoted.is_empty() { "the request".to_owned() } else { quoted }
}

/// Words of letters and digits; signs within a word, as in `co-op`, belong to it.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '’')))
        .map(|word| word.trim_matches(['-', '’']))
        .filter(|word| !word.is_empty())
}

/// A short answer that quotes the topic. The tag makes answers to different requests differ.
pub(super) fn answer(model: &str, topic: &str, seed: Seed) -> String {
    let mut dice = seed.dice(0);
    let opening = dice.pick(&OPENINGS).copied().unwrap_or_default();
    let thoughts = two_thoughts(&mut dice);
    format!("{opening} '{topic}': {}; {}. ({model}, {})", thoughts.0, thoughts.1, seed.tag())
}

/// One remark under a name, as a string in a structured answer.
pub(super) fn remark(name: &str, topic: &str, dice: &mut Dice) -> String {
    format!("{name}: on '{topic}', {}", two_thoughts(dice).0)
}

/// Words to make a text longer.
pub(super) fn more(dice: &mut Dice) -> &'static str {
    two_thoughts(dice).0
}

fn two_thoughts(dice: &mut Dice) -> (&'static str, &'static str) {
    let count = THOUGHTS.len() as u64;
    let first = dice.below(count);
    let second = first + 1 + dice.below(count - 1);
    let thought = |index: u64| THOUGHTS.iter().cycle().nth(index as usize).copied().unwrap_or_default();
    (thought(first), thought(second))
}

/// Ends a text where the request says: before a stop sequence, and within the tokens allowed.
pub(super) fn cut(mut text: String, request: &Request) -> (String, FinishReason) {
    if let Some(stop) = request.stop.iter().filter_map(|stop| text.find(stop)).min() {
        text.truncate(stop);
    }
    let bytes_max = bytes_max(request);
    if text.len() <= bytes_max {
        return (text, FinishReason::Stop);
    }
    text.truncate(text.floor_char_boundary(bytes_max));
    (text, FinishReason::Length)
}

/// The longest answer that the request allows, in bytes.
pub(super) fn bytes_max(request: &Request) -> usize {
    let tokens = request.max_tokens.map_or(u64::MAX, u64::from);
    usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX)
}

/// Tokens of a written answer.
pub(super) fn output_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Tokens of a request: a quarter less than what is reserved for it, which is on the high side.
pub(super) fn input_tokens(request: &Request) -> u64 {
    (request.input_tokens_estimate() / 4).saturating_mul(3).max(1)
}

/// The pieces of a text as a stream gives them: a word each, with the white space before it.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let length = rest.get(word..).and_then(|from| from.find(char::is_whitespace));
        let (piece, after) = rest.split_at(length.map_or(rest.len(), |length| word + length));
        pieces.push(piece.to_owned());
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_few_clean_words() {
        assert_eq!(topic("Idea: a bakery for night owls"), "a bakery for night owls");
        assert_eq!(topic("Note: this"), "Note this");
        assert_eq!(topic("\u{1b}[31m{\"idea\": \"x\"}"), "31m idea x");
        assert_eq!(topic("  \n"), "the request");
        assert!(topic(&"wörter ".repeat(100)).len() <= QUOTED_BYTES_MAX);
    }

    #[test]
    fn pieces_add_up_to_the_text() {
        for text in ["", "one", " a  b\n c ", "\n", "ä ö"] {
            assert_eq!(pieces(text).concat(), text);
        }
        assert_eq!(pieces("a bc d"), ["a", " bc", " d"]);
    }

    #[test]
    fn a_text_ends_at_the_stop_or_at_the_limit() {
        let request = |max_tokens, stop: &[&str]| Request {
            max_tokens,
            stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
            ..Request::default()
        };
        let cut = |max_tokens, stop: &[&str]| cut("one two three".to_owned(), &request(max_tokens, stop));
        assert_eq!(cut(None, &[]), ("one two three".to_owned(), FinishReason::Stop));
        assert_eq!(cut(None, &["three", "two"]), ("one ".to_owned(), FinishReason::Stop));
        assert_eq!(cut(Some(1), &["two"]), ("one ".to_owned(), FinishReason::Stop));
        assert_eq!(cut(Some(1), &["three"]), ("one ".to_owned(), FinishReason::Length));
    }
}
