"""Digital livers with known truth, in the files that users have."""

from .biopsy import Biopsy, Tumour, simulate_biopsy
from .compare import TruthComparison, compare_cases, compare_with_truth
from .liver import LiverPhantom, default_acquisition, simulate_liver
from .montecarlo import MonteCarlo, simulate_permeable_spheres
from .paper import write_paper_study
from .spheres import SphereSignals, simulate_sphere_signals
from .tissue import GROUPS
from .write import write_protocol, write_sample, write_study

__all__ = [
    "GROUPS",
    "Biopsy",
    "LiverPhantom",
    "MonteCarlo",
    "SphereSignals",
    "TruthComparison",
    "Tumour",
    "compare_cases",
    "compare_with_truth",
    "default_acquisition",
    "simulate_biopsy",
    "simulate_liver",
    "simulate_permeable_spheres",
    "simulate_sphere_signals",
    "write_paper_study",
    "write_protocol",
    "write_sample",
    "write_study",
]
