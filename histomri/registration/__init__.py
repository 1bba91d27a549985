"""From the world of a histology section to the world of an MRI slice, and back."""

from histomri.registration.displacement import Displacement
from histomri.registration.estimate import SHRINKAGE, register
from histomri.registration.landmarks import read_landmarks
from histomri.registration.quality import Candidate, Registration
from histomri.registration.transform import Transform

__all__ = ["SHRINKAGE", "Candidate", "Displacement", "Registration", "Transform", "read_landmarks", "register"]
