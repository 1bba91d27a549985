"""Pair histology with MRI, per voxel through a transform or per sample, in tidy tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
