from .analysis import histology_fidelity as histology_fidelity
from .analysis import rank_models as rank_models
from .analysis import total_correlation_score as total_correlation_score
from .cells import CellTable as CellTable
from .cells import read_cells as read_cells
from .cells import read_regions as read_regions
from .core.images import Image as Image
from .fitting import FitResult as FitResult
from .fitting import fit as fit
from .fitting import fit_dki as fit_dki
from .mri import Acquisition as Acquisition
from .mri import read_acquisition as read_acquisition
from .pairing import PairedTable as PairedTable
from .pairing import pair_maps as pair_maps
from .patches import PatchGrid as PatchGrid
from .patches import PatchMaps as PatchMaps
from .patches import summarise_patches as summarise_patches
from .registration import Registration as Registration
from .registration import Transform as Transform
from .registration import register as register
from .slides import open_slide as open_slide
from .study import Study as Study
from .study import run_study as run_study

__version__: str
