"""Digital livers and biopsies with known truth, in the files that users have, and signals of permeable spheres."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
