"""Files of transforms: one module per format, which registers itself; `registry` reads and writes by them."""
