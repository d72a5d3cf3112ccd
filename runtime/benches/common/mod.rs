//! What the benches share: guests, samples of times, and tables of them.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::time::Duration;

/// False under `cargo test --benches`, which asks for no more than that a bench still runs.
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A component with so many pages of memory whose `run` does `code`, then gives back its input. `code` may use the
/// locals `$a` to `$d` and `$x`, `$y`, the length of the input in `$length`, and memory from 64 KiB on.
pub fn component(pages: u32, code: &str) -> String {
    format!(
        r#"
(component
  (core module $m
    (memory (export "memory") {pages})
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func $fibonacci (param $n i32) (result i32)
      (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
        (then (local.get $n))
        (else (i32.add
          (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
          (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))))
    (func (export "run") (param $at i32) (param $length i32) (result i32)
      (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $x i64) (local $y f64)
      {code}
      (i32.store (i32.const 0) (i32.const 0))
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "run") (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))
"#
    )
}

/// Gives back what it gets. 64 KiB of memory.
pub fn echo() -> String {
    component(1, "")
}

/// Times of one kind.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The smallest time that this many percent of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// The median of numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A time in microseconds.
pub fn us(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

/// A time in milliseconds.
pub fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// How often `whole` holds `part`.
pub fn ratio(whole: Duration, part: Duration) -> f64 {
    whole.as_secs_f64() / part.as_secs_f64()
}

/// Rows of text, the first column to the left and all others to the right.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new<const N: usize>(heads: [&str; N]) -> Self {
        Table(vec![heads.iter().map(ToString::to_string).collect()])
    }

    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.0.push(cells.iter().map(ToString::to_string).collect());
    }

    pub fn print(&self, title: &str) {
        let widths: Vec<usize> = (0..self.0.iter().map(Vec::len).max().unwrap_or(0))
            .map(|column| {
                self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        println!("\n{title}");
        for row in &self.0 {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}
