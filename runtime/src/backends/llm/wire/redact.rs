//! Makes a provider's words fit for the user: no part of a key, no address, and not too many. A provider may say anything,
//! also the key that it was sent, whole or half, as it came or written otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;

use crate::backends::llm::Secret;
use crate::host_api::sanitize_line;

/// So many characters of a key in a row are a part of it.
const PART_CHARS: usize = 6;

/// What the user is shown at most.
const SHOWN_BYTES_MAX: usize = 300;

/// What is looked at, at most.
const READ_CHARS_MAX: usize = 4_096;

/// What providers put in place of most of a key.
const MASKS: [char; 4] = ['*', '.', '\u{2026}', '\u{2022}'];

/// The text in one line, cut short. Words that hold a part of a secret are `[key]`, and addresses are `[address]`.
pub(in super::super) fn redact<'a>(text: &str, secrets: impl Iterator<Item = &'a Secret>) -> String {
    let parts: Vec<_> = secrets.filter(|secret| !secret.is_empty()).flat_map(Parts::all_of).collect();
    let text = one_line(text);
    let words = word_ranges(&text);
    let mut hit = vec![false; words.len()];
    for part in &parts {
        mark_across_words(&text, part, &words, &mut hit);
    }
    let mut shown = String::new();
    for (&(begin, end), hit) in words.iter().zip(hit) {
        let word: Zeroizing<String> = Zeroizing::new(text.get(begin..end).unwrap_or_default().iter().collect());
        if !shown.is_empty() {
            shown.push(' ');
        }
        if hit || holds_part(&word, &parts) {
            shown.push_str("[key]");
        } else {
            push_without_addresses(&mut shown, &word);
        }
        // The rest would be cut anyway.
        if shown.len() > SHOWN_BYTES_MAX {
            break;
        }
    }
    if shown.len() > SHOWN_BYTES_MAX {
        shown.truncate(shown.floor_char_boundary(SHOWN_BYTES_MAX.saturating_sub('…'.len_utf8())));
        shown.push('…');
    }
    shown
}

/// The beginning of the text as characters that can be shown, with one space where there were others. A word that was cut
/// here is left out: half a key is harder to find.
fn one_line(text: &str) -> Zeroizing<Vec<char>> {
    let mut line = Zeroizing::new(Vec::with_capacity(READ_CHARS_MAX));
    for c in text.chars() {
        if line.len() == READ_CHARS_MAX {
            let last_space = line.iter().rposition(|&c| c == ' ').unwrap_or(0);
            line.truncate(last_space);
            break;
        }
        push_clean(&mut line, c);
    }
    line
}

fn push_clean(line: &mut Vec<char>, c: char) {
    if c.is_whitespace() {
        if line.last().is_some_and(|&last| last != ' ') {
            line.push(' ');
        }
    } else if sanitize_line(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
        line.push(c);
    }
}

/// From where to where the words go.
fn word_ranges(text: &[char]) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut begin = 0_usize;
    for word in text.split(|&c| c == ' ') {
        let end = begin.saturating_add(word.len());
        if end > begin {
            words.push((begin, end));
        }
        begin = end.saturating_add(1);
    }
    words
}

/// A secret, in one way to write it, so that parts of it are found quickly. Small and capital letters are the same.
struct Parts {
    chars: Zeroizing<Vec<char>>,
    /// Where parts begin, ordered by the parts.
    order: Vec<usize>,
    part_chars: usize,
}

impl Parts {
    fn new(written: &str) -> Option<Self> {
        let mut clean = Zeroizing::new(Vec::with_capacity(written.len()));
        written.chars().for_each(|c| push_clean(&mut clean, c.to_ascii_lowercase()));
        if clean.is_empty() {
            return None;
        }
        let part_chars = clean.len().min(PART_CHARS);
        let mut order: Vec<_> = (0..=clean.len().saturating_sub(part_chars)).collect();
        order.sort_unstable_by(|&one, &other| part(&clean, one, part_chars).cmp(part(&clean, other, part_chars)));
        Some(Parts { chars: clean, order, part_chars })
    }

    /// A secret in all ways it may be written that cannot be undone word by word: as it is, without what looks like a
    /// mask, and in base64 after something else, as the password is in Basic authorization.
    fn all_of(secret: &Secret) -> Vec<Self> {
        let key = secret.expose();
        let mut ways = vec![Zeroizing::new(key.to_owned()), without_masks(key)];
        for before in 0..3_usize {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.reserve_exact(key.len());
            bytes.extend_from_slice(key.as_bytes());
            // Four characters are three bytes. Those that share bits with what is before or after the key are not its own.
            let own = before.saturating_mul(8).div_ceil(6)..bytes.len().saturating_mul(8) / 6;
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let encoded = Zeroizing::new(engine.encode(&*bytes));
                // A part as short as that would be found in everything.
                if own.len() >= 4 {
                    ways.push(Zeroizing::new(encoded.get(own.clone()).unwrap_or_default().to_owned()));
                }
            }
        }
        ways.iter().filter_map(|way| Parts::new(way)).collect()
    }

    fn is_part(&self, window: &[char]) -> bool {
        let find = |&begin: &usize| part(&self.chars, begin, self.part_chars).cmp(window);
        self.order.binary_search_by(find).is_ok()
    }

    /// Where in these characters, which are in small letters, parts begin.
    fn found_in<'a>(&'a self, chars: &'a [char]) -> impl Iterator<Item = usize> + 'a {
        chars.windows(self.part_chars).enumerate().filter(|(_, window)| self.is_part(window)).map(|(begin, _)| begin)
    }
}

fn part(chars: &[char], begin: usize, length: usize) -> &[char] {
    chars.get(begin..begin.saturating_add(length)).unwrap_or_default()
}

/// Marks the words that a part of the secret reaches into. A key may have spaces.
fn mark_across_words(text: &[char], parts: &Parts, words: &[(usize, usize)], hit: &mut [bool]) {
    let small = small_letters(text.len(), text.iter().copied());
    for begin in parts.found_in(&small) {
        let end = begin.saturating_add(parts.part_chars);
        let first = words.partition_point(|word| word.1 <= begin);
        for (word, hit) in words.iter().zip(hit.iter_mut()).skip(first) {
            if word.0 >= end {
                break;
            }
            *hit = true;
        }
    }
}

/// Whether a part of a secret is in this word, if it is read in one of the ways that keys are written.
fn holds_part(word: &str, parts: &[Parts]) -> bool {
    let plain = Zeroizing::new(word.to_owned());
    let percent = percent_decoded(word);
    let json = json_unescaped(word);
    let both = json_unescaped(&percent);
    [plain, percent, json, both].iter().any(|reading| {
        let bare = without_masks(reading);
        [reading, &bare].iter().any(|reading| {
            let small = small_letters(reading.len(), reading.chars());
            parts.iter().any(|parts| parts.found_in(&small).next().is_some())
        })
    })
}

fn small_letters(at_most: usize, chars: impl Iterator<Item = char>) -> Zeroizing<Vec<char>> {
    let mut small = Zeroizing::new(Vec::with_capacity(at_most));
    small.extend(chars.map(|c| c.to_ascii_lowercase()));
    small
}

fn without_masks(text: &str) -> Zeroizing<String> {
    let mut bare = Zeroizing::new(String::with_capacity(text.len()));
    bare.extend(text.chars().filter(|c| !MASKS.contains(c)));
    bare
}

fn percent_decoded(text: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(&[*high, *low]).and_then(|code| u8::try_from(code).ok()),
            _ => None,
        };
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

fn json_unescaped(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        let code = (first == '\\')
            .then(|| after.strip_prefix('u')?.as_bytes().first_chunk::<4>())
            .flatten()
            .and_then(|digits| char::from_u32(hex(digits)?));
        match code {
            Some(c) => {
                plain.push(c);
                rest = after.get(5..).unwrap_or_default();
            }
            // What stands after it is meant as it is, or is a control character that no key has.
            None if first == '\\' => {
                let escaped = after.chars().next().unwrap_or('\\');
                plain.push(escaped);
                rest = after.get(escaped.len_utf8()..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
}

/// Puts `[address]` where a word has one: from its scheme to its end, but for what ends the sentence.
fn push_without_addresses(shown: &mut String, word: &str) {
    let mut rest = word;
    while let Some((before, after)) = split_at_scheme(rest) {
        shown.push_str(before);
        shown.push_str("[address]");
        let end = after.find(['"', '\'', '`', '<', '>']).unwrap_or(after.len());
        let (address, next) = after.split_at_checked(end).unwrap_or((after, ""));
        let bare = address.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '\\']);
        shown.push_str(address.get(bare.len()..).unwrap_or_default());
        rest = next;
    }
    shown.push_str(rest);
}

/// What is before the first address, and the address from its scheme on.
fn split_at_scheme(word: &str) -> Option<(&str, &str)> {
    // As it is, and as some write it in JSON.
    let slashes = ["://", ":\\/\\/"].iter().filter_map(|slashes| word.find(slashes)).min()?;
    let before = word.get(..slashes)?;
    let scheme = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'));
    word.split_at_checked(scheme.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-abcd1234EFGH5678wxyz";

    fn shown(text: &str, key: &str) -> String {
        redact(text, [Secret::new(key)].iter())
    }

    #[test]
    fn what_openai_says_about_a_wrong_key_shows_none_of_it() {
        let text = "Incorrect API key provided: sk-abcd****wxyz. You can find your API key at \
            https://platform.openai.com/account/api-keys.";
        let expected = "Incorrect API key provided: [key] You can find your API key at [address].";
        assert_eq!(shown(text, KEY), expected);
        assert_eq!(shown(&text.replace("****", &"*".repeat(40)), KEY), expected);
        assert_eq!(shown(&text.replace("****", "..."), KEY), expected);
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        let basic = STANDARD_NO_PAD.encode(format!("user:{KEY}"));
        let bearer = URL_SAFE_NO_PAD.encode(format!("é{KEY}é"));
        for word in [
            KEY,
            "d1234E",
            "SK-ABCD1234",
            "(key=sk-abcd1234EFGH5678wxyz)",
            "https://example.com/?key=sk-abcd1234EFGH5678wxyz",
            "sk%2Dabcd1234EFGH",
            "%73%6B%2d%61%62%63",
            "\\u0073k-abc\\u0064",
            "\"sk\\-ab\\c\"",
            "%5Cu0073k-abc",
            "s.k.-.a.b.c",
            "sk-\u{200b}ab\u{7}c",
            "c2stYWJjZDEyMzRFRkdINTY3OHd4eXo=",
            &basic,
            &bearer,
        ] {
            assert_eq!(shown(&format!("The key {word} is wrong"), KEY), "The key [key] is wrong", "{word}");
        }
        assert_eq!(shown("sk-abcd\n1234EFGH", KEY), "[key] [key]");
        assert_eq!(shown("What begins with sk-ab is a key.", KEY), "What begins with sk-ab is a key.");
        assert_eq!(shown("it is open  sesame, no?", "open sesame"), "it is [key] [key] no?");
        assert_eq!(shown("it is eyJ.abc.def", "eyJ.abc.def"), "it is [key]");
        assert_eq!(shown("wrong: pa%22ss/wd", "pa\"ss/wd"), "wrong: [key]");
        assert_eq!(shown("wrong: pä\\\"ss\\/wd", "pä\"ss/wd"), "wrong: [key]");
    }

    #[test]
    fn a_short_key_is_found_whole() {
        assert_eq!(shown("a1b2 xa1b2c a1b", "a1b2"), "[key] [key] a1b");
        assert_eq!(shown("nothing of it", " "), "nothing of it");
        assert_eq!(redact("nothing of it", [].iter()), "nothing of it");
        let two = [Secret::new("first-key"), Secret::new("other-key")];
        assert_eq!(redact("first- and other-", two.iter()), "[key] and [key]");
    }

    #[test]
    fn addresses_do_not_show() {
        for (text, expected) in [
            ("see https://a.example/x?y=z, or http://10.0.0.1:80/.", "see [address], or [address]."),
            ("{\"url\":\"HTTPS://a.example/\",\"n\":1}", "{\"url\":\"[address]\",\"n\":1}"),
            ("https:\\/\\/a.example\\/x", "[address]"),
            ("wss://a.example'http://b.example' ://", "[address]'[address]' [address]"),
            ("3:4 a:/b https:/ //c", "3:4 a:/b https:/ //c"),
        ] {
            assert_eq!(shown(text, KEY), expected);
        }
    }

    #[test]
    fn it_is_one_line_that_is_cut_where_a_character_ends() {
        assert_eq!(shown(" a\r\n\tb\u{1b}[31m\0\u{202e}c\u{2028}d ", KEY), "a b[31mc d");
        let long = shown(&"é".repeat(400), KEY);
        assert!(long.ends_with("é…") && long.len() <= 300 && long.len() > 296, "{long}");
        assert_eq!(shown(&"x".repeat(300), KEY), "x".repeat(300));
        // Found before it is cut, wherever that is.
        for before in 270..310 {
            let text = format!("{} {KEY}", "x".repeat(before));
            assert!(!shown(&text, KEY).contains("sk-"), "{before}");
        }
        for before in READ_CHARS_MAX - 30..READ_CHARS_MAX + 5 {
            let text = format!("{KEY}{} {KEY}", "x".repeat(before - KEY.len()));
            assert!(matches!(shown(&text, KEY).as_str(), "[key]" | "[key] [key]" | ""), "{before}");
        }
    }

    /// Keys of all characters that a header can have.
    fn a_key() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[A-Za-z0-9_-]{6,60}",
            1 => "[A-Za-z0-9+/=.%\\\\\"*]{6,40}",
            1 => "[!-~]([ -~]{4,20})[!-~]",
        ]
    }

    fn written(key: &str, way: usize) -> String {
        match way % 6 {
            0 => key.to_owned(),
            1 => key.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            2 => serde_json::to_string(key).unwrap(),
            3 => key.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect(),
            4 => STANDARD_NO_PAD.encode(format!("x:{key}")),
            _ => key.chars().flat_map(|c| [c, '*']).collect(),
        }
    }

    proptest! {
        #[test]
        fn no_part_of_a_key_survives(
            key in a_key(),
            before in "\\PC{0,30}",
            after in "\\PC{0,30}",
            (way, from, to, far) in (0..6_usize, 0..30_usize, 0..60_usize, 0..400_usize),
        ) {
            let from = from.min(key.len());
            let part = key.get(from..to.clamp(from, key.len())).unwrap();
            let text = format!("{}{before}{}{after} {}", "y ".repeat(far), written(part, way), written(&key, way));
            let shown = redact(&text, [Secret::new(key.as_str())].iter());
            prop_assert!(shown.len() <= 300);
            let key: Vec<_> = key.chars().collect();
            for part in key.windows(6) {
                let part: String = part.iter().collect();
                prop_assert!(!shown.contains(&part), "{part:?} of {key:?} in {shown:?}");
            }
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC*", noise in proptest::collection::vec(any::<u8>(), 0..200), key in "\\PC{0,20}") {
            let secret = Secret::new(key);
            for text in [text.as_str(), &String::from_utf8_lossy(&noise)] {
                let shown = redact(text, [&secret].into_iter());
                prop_assert!(shown.len() <= 300 && !shown.chars().any(char::is_control));
            }
        }
    }
}
