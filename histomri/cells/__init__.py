"""Cells: any QuPath export becomes one table in µm, and every row left out is counted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
