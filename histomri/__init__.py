"""Digital pathology and MRI-histology co-registration.

QuPath cells become patch maps, diffusion MRI becomes microstructure maps, the two are registered, paired,
scored, and shown. Method: Grussu et al., Communications Medicine 2025, doi 10.1038/s43856-025-01246-2.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
