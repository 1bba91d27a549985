"""From the world of a histology section to the world of an MRI slice, and back."""

from histomri.registration.assess import assess
from histomri.registration.displacement import Displacement
from histomri.registration.estimate import SHRINKAGE, register
from histomri.registration.figures import write_figures
from histomri.registration.formats import doubts_of, own_warps
from histomri.registration.landmark_files import read_landmarks, read_points, unpaired_landmarks
from histomri.registration.landmark_fits import fit_landmarks, leave_one_out, tre
from histomri.registration.quality import Candidate, Registration
from histomri.registration.sections import SlidePictures, compare_densities, dense_mask, density_image, slide_image
from histomri.registration.transform import Transform
from histomri.registration.warping import warp_region, warp_tiles

__all__ = [
    "SHRINKAGE",
    "Candidate",
    "Displacement",
    "Registration",
    "SlidePictures",
    "Transform",
    "assess",
    "compare_densities",
    "dense_mask",
    "density_image",
    "doubts_of",
    "fit_landmarks",
    "leave_one_out",
    "own_warps",
    "read_landmarks",
    "read_points",
    "register",
    "slide_image",
    "tre",
    "unpaired_landmarks",
    "warp_region",
    "warp_tiles",
    "write_figures",
]
