from .options import (
    JoinOptions as JoinOptions,
)
from .options import (
    PairOptions as PairOptions,
)
from .options import (
    ResidualsOptions as ResidualsOptions,
)
from .pair import pair_maps as pair_maps
from .pair import pair_means as pair_means
from .residuals import pool_residuals as pool_residuals
from .residuals import save_residuals as save_residuals
from .sample import SamplePairs as SamplePairs
from .sample import pair_folders as pair_folders
from .table import PairedTable as PairedTable
