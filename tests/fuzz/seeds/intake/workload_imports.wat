(component
  (import "holm:host/x@0.1.0" (instance
    (export "r" (type $r (sub resource)))
    (export "t" (type (eq $r)))
    (export "f" (func (param "a" (list (option (tuple u8 string)))) (result (result (own $r) (error string)))))))
  (import "log" (func (param "line" string)))
  (component $c (core module $m (table 1 funcref) (memory 1)) (core instance (instantiate $m)))
  (instance (instantiate $c))
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (param i32 i32) (result i32) unreachable)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "run" (func $run)))
