from .options import JoinOptions as JoinOptions, PairOptions as PairOptions, ResidualsOptions as ResidualsOptions
from .pair import pair_maps as pair_maps, pair_means as pair_means
from .residuals import pool_residuals as pool_residuals, save_residuals as save_residuals
from .sample import SamplePairs as SamplePairs, pair_folders as pair_folders
from .section import Section as Section, read_section as read_section
from .table import PairedTable as PairedTable
