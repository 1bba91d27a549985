"""Show a run: one HTML file with maps, overlays, figures, the ranking, and how reliable it is.

`collect` reads the results folder, `page` puts the HTML together from its sections, `figures` draws, `text` and
`methods` write sentences, `maps`, `pictures` and `overlay` prepare the maps of a sample.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
