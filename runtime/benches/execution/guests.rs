//! The guests, in text form.

/// Calls that [`CLOCK`] makes.
pub const CLOCK_CALLS: u32 = 10_000;

/// Asks for the time [`CLOCK_CALLS`] times, then gives back what it got.
pub const CLOCK: &str = r#"
(component
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (core func $now (canon lower (func $clock "now")))
  (core module $m
    (import "host" "now" (func $now (result i64)))
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $free))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "run") (param $at i32) (param $length i32) (result i32)
      (local $calls i32)
      (loop $again
        (drop (call $now))
        (local.set $calls (i32.add (local.get $calls) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $calls) (i32.const 10000))))
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "host" (instance (export "now" (func $now))))))
  (func (export "run") (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))
"#;
