//! Texts as vectors, by hashing their words: texts that share words are near each other.

use super::seed::{hash, scramble};
use super::text::words;

/// Numbers in a vector.
const DIMENSIONS: usize = 64;

/// Bytes of a word's beginning that stand for its stem: `baker`, `bakery` and `baking` share one.
const STEM_BYTES: usize = 4;

/// A vector of length one. It depends on the words of the text, not on their order.
pub(super) fn embed(text: &str) -> Vec<f32> {
    let mut vector = [0.0_f64; DIMENSIONS];
    for word in words(text) {
        let word = word.to_lowercase();
        // Short words are mostly `the` and `of`; they say little about what a text is about.
        let weight = if word.chars().count() > 3 { 1.0 } else { 0.2 };
        add(&mut vector, word.as_bytes(), weight);
        let stem = word.get(..word.floor_char_boundary(STEM_BYTES)).unwrap_or_default();
        add(&mut vector, stem.as_bytes(), weight * 0.5);
    }
    // A text without words still has a direction, and so has one whose words cancel each other out.
    add(&mut vector, b"", 1e-3);
    let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    vector.iter().map(|number| (number / length) as f32).collect()
}

fn add(vector: &mut [f64; DIMENSIONS], feature: &[u8], weight: f64) {
    let hash = scramble(hash(feature));
    let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
    if let Some(number) = vector.get_mut((hash % DIMENSIONS as u64) as usize) {
        *number += sign * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embed(a).iter().zip(embed(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_have_length_one_whatever_the_text() {
        for text in ["", "a", "the bakery opens at night", "🙂🙂", &"x ".repeat(10_000)] {
            assert!((cosine(text, text) - 1.0).abs() < 1e-5, "{text:.40}");
            assert_eq!(embed(text).len(), DIMENSIONS);
        }
    }

    #[test]
    fn similar_texts_are_nearer_than_others() {
        let bakery = "A bakery that opens at night and sells fresh bread";
        for near in ["fresh bread from a night bakery", "The baker sells bread at night"] {
            for far in ["Quarterly tax returns are due in March", "The compiler rejects unsafe pointers", ""] {
                assert!(cosine(bakery, near) > cosine(bakery, far) + 0.2, "{near} / {far}");
            }
        }
        assert!((cosine("order of words", "WORDS of order!") - 1.0).abs() < 1e-5);
    }
}
