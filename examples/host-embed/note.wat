;; Takes its input as a note and answers with all of the user's notes, one a line.
;; After an input that begins with `!` it traps, to show that the note is not kept then.
(component
  (import "example:notes/notes@0.1.0" (instance $notes
    (export "add" (func (param "text" string) (result (result u32 (error string)))))
    (export "all" (func (result (result (list string) (error string)))))))

  ;; A memory, and an allocator that never frees: an instance serves one execution.
  (core module $Memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (loop $grow
        (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16))) (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
          (br $grow))))
      (local.get $at)))

  (core module $Main
    (import "notes" "add" (func $add (param $text i32) (param $length i32) (param $result i32)))
    (import "notes" "all" (func $all (param $result i32)))
    (import "memory" "memory" (memory 1))
    (import "memory" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))

    ;; All results are put at address 0: a byte that is 1 for an error, then at 4 and 8 a pointer and a
    ;; length. An error of the host can so be returned as it is.
    (func (export "run") (param $text i32) (param $length i32) (result i32)
      (local $note i32) (local $end i32) (local $answer i32) (local $at i32)
      (call $add (local.get $text) (local.get $length) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
      (if (i32.eq (i32.load8_u (local.get $text)) (i32.const 0x21 (; ! ;))) (then unreachable))

      (call $all (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
      (local.set $note (i32.load (i32.const 4)))
      (local.set $end (i32.add (local.get $note) (i32.shl (i32.load (i32.const 8)) (i32.const 3))))

      ;; Nothing else allocates from here on, so that the lines come to lie one after the other.
      (local.set $answer (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))
      (loop $next
        (local.set $length (i32.load offset=4 (local.get $note)))
        (local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 1)
                                      (i32.add (local.get $length) (i32.const 1))))
        (memory.copy (local.get $at) (i32.load (local.get $note)) (local.get $length))
        (local.set $at (i32.add (local.get $at) (local.get $length)))
        (i32.store8 (local.get $at) (i32.const 0x0a))
        (local.set $note (i32.add (local.get $note) (i32.const 8)))
        (br_if $next (i32.lt_u (local.get $note) (local.get $end))))
      (i32.store (i32.const 4) (local.get $answer))
      (i32.store (i32.const 8) (i32.sub (i32.add (local.get $at) (i32.const 1)) (local.get $answer)))
      (i32.const 0)))

  (core instance $memory (instantiate $Memory))
  (core func $add (canon lower (func $notes "add")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $all (canon lower (func $notes "all")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core instance $main (instantiate $Main
    (with "notes" (instance (export "add" (func $add)) (export "all" (func $all))))
    (with "memory" (instance $memory))))
  (func (export "run") (param "input" string) (result (result string (error string)))
    (canon lift (core func $main "run") (memory $memory "memory") (realloc (func $memory "realloc")))))
