(component
  (type (component
    (type (component
      (type $result (result string (error string)))
      (type $run (func (param "input" string) (result $result)))
      (export "run" (func (type $run)))))
    (export "test:test/world" (component (type 0)))))
  (export "world" (type 0))
  (@custom "wit-component-encoding" "\04\00"))
