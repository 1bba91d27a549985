"""What developers run: the tests on every system, and the fuzzer of the readers. It is not installed with histomri."""
