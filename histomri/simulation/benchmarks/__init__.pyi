from .declaration import BenchmarkSet as BenchmarkSet
from .names import SET_NAMES as SET_NAMES
from .results import BenchmarkScore as BenchmarkScore
from .results import score_benchmark as score_benchmark
from .sets import SETS as SETS
from .sets import get_set as get_set
from .write import write_benchmark as write_benchmark
