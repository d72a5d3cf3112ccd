//! Strings of the formats that JSON schema knows.

use crate::llm::memory::seed::Dice;
use crate::llm::memory::text::words;

/// A string of this format; `None` if the format is not known. The label shows where one can be read.
pub(super) fn sample(format: &str, label: &str, dice: &mut Dice) -> Option<String> {
    let slug = slug(label);
    let number = dice.below(900) + 100;
    Some(match format {
        "date" => date(dice),
        "time" => time(dice),
        "date-time" => format!("{}T{}", date(dice), time(dice)),
        "duration" => format!("P{}DT{}H", dice.below(30), dice.below(24)),
        "email" | "idn-email" => format!("{slug}.{number}@example.com"),
        "hostname" | "idn-hostname" => format!("{slug}-{number}.example.com"),
        "ipv4" => format!("192.0.2.{}", dice.below(256)),
        "ipv6" => format!("2001:db8::{:x}", dice.below(0xffff) + 1),
        "uri" | "iri" | "url" => format!("https://example.com/{slug}/{number}"),
        "uri-reference" | "iri-reference" => format!("/{slug}/{number}"),
        "uri-template" => format!("https://example.com/{slug}/{{id}}"),
        "uuid" => uuid(dice),
        "json-pointer" => format!("/{slug}/{}", dice.below(10)),
        "relative-json-pointer" => format!("{}/{slug}", dice.below(3)),
        "regex" => format!("^{slug}-[0-9]+$"),
        "base64" => "b2ZmbGluZQ==".to_owned(),
        "application/json" => format!("{{\"number\": {number}}}"),
        _ => return None,
    })
}

/// Letters and digits that any address may hold.
fn slug(label: &str) -> String {
    let ascii: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    let words: Vec<&str> = words(&ascii).collect();
    let slug = words.join("-");
    match slug.get(..slug.len().min(40)).map(|slug| slug.trim_matches('-')) {
        Some(slug) if !slug.is_empty() => slug.to_owned(),
        _ => "value".to_owned(),
    }
}

fn date(dice: &mut Dice) -> String {
    // Every month has 28 days.
    format!("20{:02}-{:02}-{:02}", 20 + dice.below(10), 1 + dice.below(12), 1 + dice.below(28))
}

fn time(dice: &mut Dice) -> String {
    format!("{:02}:{:02}:{:02}Z", dice.below(24), dice.below(60), dice.below(60))
}

fn uuid(dice: &mut Dice) -> String {
    let (high, low) = (dice.roll(), dice.roll());
    let parts = (high >> 32, (high >> 16) & 0xffff, high & 0xfff, low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", parts.0, parts.1, parts.2, parts.3, parts.4)
}
