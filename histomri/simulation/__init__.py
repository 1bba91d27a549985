"""Digital livers with known truth, in the files that users have."""

from .compare import TruthComparison, compare_with_truth
from .liver import LiverPhantom, default_acquisition, simulate_liver
from .montecarlo import MonteCarlo, simulate_permeable_spheres
from .spheres import SphereSignals, simulate_sphere_signals
from .tissue import GROUPS
from .write import write_protocol, write_sample, write_study

__all__ = [
    "GROUPS",
    "LiverPhantom",
    "MonteCarlo",
    "SphereSignals",
    "TruthComparison",
    "compare_with_truth",
    "default_acquisition",
    "simulate_liver",
    "simulate_permeable_spheres",
    "simulate_sphere_signals",
    "write_protocol",
    "write_sample",
    "write_study",
]
