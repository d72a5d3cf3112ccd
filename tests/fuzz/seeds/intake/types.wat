(component
  (type $record (record (field "a" u8) (field "b" (list string)) (field "c" (option char))))
  (type $variant (variant (case "x" $record) (case "y") (case "z" (tuple f32 f64 s64))))
  (type $flags (flags "one" "two" "three"))
  (type $enum (enum "red" "green"))
  (type $instance (instance (export "r" (type (sub resource))) (export "f" (func (result bool))))))
