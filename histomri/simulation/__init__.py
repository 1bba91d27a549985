"""Digital livers with known truth, in the files that users have."""

from .compare import TruthComparison, compare_with_truth
from .liver import LiverPhantom, default_acquisition, simulate_liver
from .montecarlo import MonteCarlo, simulate_permeable_spheres
from .tissue import GROUPS
from .write import write_protocol, write_sample, write_study

__all__ = [
    "GROUPS",
    "LiverPhantom",
    "MonteCarlo",
    "TruthComparison",
    "compare_with_truth",
    "default_acquisition",
    "simulate_liver",
    "simulate_permeable_spheres",
    "write_protocol",
    "write_sample",
    "write_study",
]
