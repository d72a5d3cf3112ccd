(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (func (param i32) (result i32)
    (block (loop (br_if 1 (local.get 0)) (br_table 0 1 (local.get 0)))) i32.const 1)
  (func (call_indirect (i32.const 0)))
  (table 1 funcref) (global i32 (i32.const 1))
  (memory (export "memory") 1)
  (data (i32.const 8) "some data")
  (func (export "_start")))
