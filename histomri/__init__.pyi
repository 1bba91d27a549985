from .analysis import rank_models as rank_models
from .cells import CellTable as CellTable
from .cells import read_cells as read_cells
from .fitting import fit as fit
from .mri import Acquisition as Acquisition
from .mri import read_acquisition as read_acquisition
from .pairing import pair_maps as pair_maps
from .patches import PatchGrid as PatchGrid
from .patches import summarise_patches as summarise_patches
from .registration import Transform as Transform
from .registration import register as register

__version__: str
