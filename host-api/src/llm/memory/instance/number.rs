//! Numbers within bounds.

use serde_json::{Map, Number, Value};

use crate::llm::memory::seed::Dice;

/// How far from its one bound a number goes that has no other.
const SPAN: u8 = 100;

/// Candidates looked at where only some are right.
const CANDIDATES_MAX: u64 = 200;

/// What is said about a number.
#[derive(Clone, Debug)]
pub(super) struct Range {
    low: f64,
    low_excluded: bool,
    high: f64,
    high_excluded: bool,
    /// The same bounds for integers, both included. A float does not hold every large integer.
    low_integer: i128,
    high_integer: i128,
    multiples: Vec<f64>,
}

impl Default for Range {
    fn default() -> Self {
        Range {
            low: f64::NEG_INFINITY,
            low_excluded: false,
            high: f64::INFINITY,
            high_excluded: false,
            low_integer: i128::MIN,
            high_integer: i128::MAX,
            multiples: Vec::new(),
        }
    }
}

impl Range {
    /// Takes in what another schema says.
    pub(super) fn narrow(&mut self, keywords: &Map<String, Value>) {
        let number = |key: &str| keywords.get(key).and_then(Value::as_number);
        for (key, excluded) in [("minimum", false), ("exclusiveMinimum", true)] {
            let Some((bound, value)) = number(key).and_then(|bound| Some((bound, bound.as_f64()?))) else { continue };
            if value > self.low || (value == self.low && excluded) {
                (self.low, self.low_excluded) = (value, excluded);
            }
            let integer = whole(bound).map_or_else(|| clamped(value.ceil()), |integer| integer + i128::from(excluded));
            self.low_integer = self.low_integer.max(integer);
        }
        for (key, excluded) in [("maximum", false), ("exclusiveMaximum", true)] {
            let Some((bound, value)) = number(key).and_then(|bound| Some((bound, bound.as_f64()?))) else { continue };
            if value < self.high || (value == self.high && excluded) {
                (self.high, self.high_excluded) = (value, excluded);
            }
            let integer = whole(bound).map_or_else(|| clamped(value.floor()), |integer| integer - i128::from(excluded));
            self.high_integer = self.high_integer.min(integer);
        }
        self.multiples.extend(number("multipleOf").and_then(Number::as_f64).filter(|step| *step > 0.0));
    }

    /// Is this number right, multiples aside?
    pub(super) fn admits(&self, number: &Number) -> bool {
        number.as_f64().is_some_and(|value| self.holds(value))
    }

    fn holds(&self, value: f64) -> bool {
        let above = if self.low_excluded { value > self.low } else { value >= self.low };
        let below = if self.high_excluded { value < self.high } else { value <= self.high };
        above && below
    }
}

/// The number as an integer, if it is one. A float that is one counts too.
fn whole(number: &Number) -> Option<i128> {
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    exact.or_else(|| number.as_f64().filter(|value| value.fract() == 0.0).map(clamped))
}

/// Far beyond what an answer can hold, and far enough from the limits of the type to reckon with.
fn clamped(value: f64) -> i128 {
    (value as i128).clamp(-(1 << 100), 1 << 100)
}

/// An integer in the range.
pub(super) fn integer(range: &Range, dice: &mut Dice) -> Option<Value> {
    let mut step: i128 = 1;
    let mut fractions = Vec::new();
    for multiple in &range.multiples {
        match *multiple as i128 {
            integer if integer as f64 == *multiple && integer < 1 << 62 => step = least_common_multiple(step, integer)?,
            _ => fractions.push(*multiple),
        }
    }
    let span = step.checked_mul(i128::from(SPAN))?;
    let (low, high) = match (range.low_integer, range.high_integer) {
        (i128::MIN, i128::MAX) => (0, span),
        (low, i128::MAX) => (low, low.saturating_add(span)),
        (i128::MIN, high) => (high.saturating_sub(span), high),
        both => both,
    };
    let first = low.checked_add((-low).rem_euclid(step))?;
    if high < first {
        return None;
    }
    // More of them than that are not drawn from: nobody would notice.
    let count = u64::try_from((high - first) / step).unwrap_or(u64::MAX).min(u64::MAX / 2) + 1;
    let start = dice.below(count);
    let candidates = (0..count.min(CANDIDATES_MAX)).map(|n| first + i128::from((start + n) % count) * step);
    let fits = |candidate: &i128| fractions.iter().all(|fraction| (*candidate as f64 / fraction).fract() == 0.0);
    let found = candidates.into_iter().find(fits)?;
    i64::try_from(found).map(Value::from).or_else(|_| u64::try_from(found).map(Value::from)).ok()
}

/// A number in the range, with few decimals where that is possible.
pub(super) fn number(range: &Range, dice: &mut Dice) -> Option<Value> {
    let (low, high) = match (range.low.is_finite(), range.high.is_finite()) {
        (true, true) => (range.low, range.high),
        (true, false) => (range.low, range.low + f64::from(SPAN)),
        (false, true) => (range.high - f64::from(SPAN), range.high),
        (false, false) => (0.0, f64::from(SPAN)),
    };
    if !range.multiples.is_empty() {
        return multiple(range, low, high, dice);
    }
    let part = dice.below(997) as f64 / 997.0;
    // Both halves apart: the difference of two large numbers may not be one.
    let drawn = low * (1.0 - part) + high * part;
    let middle = low / 2.0 + high / 2.0;
    let rounded = [10.0, 100.0, 10_000.0].map(|scale| (drawn * scale).round() / scale);
    let candidates = rounded.into_iter().chain([drawn, middle, low, high]);
    candidates.into_iter().find(|value| range.holds(*value)).and_then(Number::from_f64).map(Value::Number)
}

/// A multiple of a number, written in decimals: `0.1 * 3` is `0.3` here, and not a little more.
fn multiple(range: &Range, low: f64, high: f64, dice: &mut Dice) -> Option<Value> {
    let step = range.multiples.iter().copied().fold(0.0, f64::max);
    let high = if range.high.is_finite() { high } else { high.max(low + step * f64::from(SPAN)) };
    let low = if range.low.is_finite() { low } else { low.min(high - step * f64::from(SPAN)) };
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first).clamp(-1.0, 1e15) + 1.0;
    let start = dice.below(count as u64);
    (0..(count as u64).min(CANDIDATES_MAX))
        .map(|n| (first + ((start + n) % count as u64) as f64) * step)
        .map(|product| format!("{product:.12}").parse().unwrap_or(product))
        .find(|value: &f64| range.holds(*value) && range.multiples.iter().all(|step| is_multiple(*value, *step)))
        .map(plainly)
}

/// `3` and not `3.0`.
fn plainly(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { Value::from(value as i64) } else { Value::from(value) }
}

fn is_multiple(value: f64, step: f64) -> bool {
    let times = value / step;
    (times - times.round()).abs() < 1e-9
}

fn least_common_multiple(a: i128, b: i128) -> Option<i128> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x.checked_rem(y)?);
    }
    a.checked_div(x)?.checked_mul(b)
}
