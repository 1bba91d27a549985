"""Studies: the file that describes one, the graph of its steps, and the pipeline that runs it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
