"""Benchmark sets: versioned inputs with known truth, and a scorer that any tool can be entered in by a CSV file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
