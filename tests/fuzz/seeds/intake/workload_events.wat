(component
  (import "holm:host/events@0.1.0" (instance $events
    (type $exhausted' (record (field "budget" string) (field "limit" u64) (field "used" u64)))
    (export "exhausted" (type $exhausted (eq $exhausted')))
    (type $denied' (variant (case "not-granted" string) (case "exhausted" $exhausted) (case "invalid" string)
      (case "unavailable" string) (case "timed-out") (case "cancelled")))
    (export "denied" (type $denied (eq $denied')))
    (export "emit" (func (param "kind" string) (param "payload" string) (result (result (error $denied)))))))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $libc (instantiate $libc))
  (core func $emit (canon lower (func $events "emit")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "host" "emit" (func $emit (param i32 i32 i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (call $emit (local.get 0) (local.get 1) (local.get 0) (local.get 1) (i32.const 64))
      (i32.store (i32.const 36) (local.get 0))
      (i32.store (i32.const 40) (local.get 1))
      (i32.const 32)))
  (core instance $i (instantiate $m
    (with "libc" (instance $libc)) (with "host" (instance (export "emit" (func $emit))))))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (export "run" (func $run)))
