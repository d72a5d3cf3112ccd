//! What the guests do; see `common::component`.

/// Never ends.
pub const SPIN: &str = "(loop $again (br $again))";

/// About a million units of fuel: ten slices.
pub const SHORT: &str = "
  (loop $again
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $a) (i32.const 150000))))";

/// Takes the memory that the default budget allows, and fills it for ever.
pub const FILL: &str = "
  (drop (memory.grow (i32.const 4064)))
  (loop $again
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 268369920))
    (br $again))";

/// Fills it once for each byte of the input.
pub const FILL_TIMES: &str = "
  (drop (memory.grow (i32.const 4064)))
  (local.set $a (local.get $length))
  (loop $again
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 268369920))
    (br_if $again (local.tee $a (i32.sub (local.get $a) (i32.const 1)))))";

/// What compute looks like, about a tenth of a second each.
pub const KERNELS: [(&str, &str); 5] = [
    ("calls: fibonacci, recursive", "(drop (call $fibonacci (i32.const 32)))"),
    (
        "integers: xorshift",
        "
  (local.set $x (i64.const 88172645463325252))
  (loop $again
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $a) (i32.const 30000000))))
  (i64.store (i32.const 16) (local.get $x))",
    ),
    (
        "memory: bytes marked by stride",
        "
  (loop $again
    (local.set $b (i32.const 0))
    (loop $stride
      (i32.store8 offset=1048576 (local.get $b) (local.get $a))
      (local.set $b (i32.add (local.get $b) (i32.const 7)))
      (br_if $stride (i32.lt_u (local.get $b) (i32.const 1000000))))
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $a) (i32.const 300))))",
    ),
    (
        "floats: a sum of square roots",
        "
  (loop $again
    (local.set $y (f64.add (local.get $y) (f64.sqrt (f64.convert_i32_u (local.get $a)))))
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $a) (i32.const 20000000))))
  (f64.store (i32.const 16) (local.get $y))",
    ),
    (
        "bulk: copies of 4 KiB",
        "
  (loop $again
    (memory.copy (i32.const 1048576) (i32.const 1060000) (i32.const 4096))
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $a) (i32.const 500000))))",
    ),
];
