(component
  (component $inner
    (core module $m (memory 2) (table 3 funcref))
    (core instance (instantiate $m)) (core instance (instantiate $m)))
  (component $outer (alias outer 1 $inner (component $again)) (instance (instantiate $again)))
  (instance (instantiate $inner)) (instance (instantiate $outer)))
