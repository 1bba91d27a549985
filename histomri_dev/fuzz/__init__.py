"""A fuzzer of every reader: files that are nearly right, of every kind, and what must not come of them."""
