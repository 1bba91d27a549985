"""Matrices of FSL's flirt, read by nitransforms.

FSL stores the map from the moving to the fixed image, in mm counted along the stored axes of each, the first axis
reversed where the voxel axes are right-handed: without both images a matrix means nothing.
"""

from pathlib import Path

from histomri.registration.io.pulled import from_pull, nifti_like, read_numbers
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform


def _read(path: Path, images: Images) -> Transform:
    from nitransforms.io.fsl import FSLLinearTransform

    numbers = read_numbers(path.read_text(encoding="ascii"), 16)
    moving, fixed = nifti_like(images)
    return from_pull(FSLLinearTransform(numbers.reshape(4, 4)).to_ras(moving=moving, reference=fixed), path)


def _is_text(path: Path) -> bool:
    """Whether a .mat file is text, as FSL writes it, and not MATLAB's."""
    content = path.read_bytes()
    return content.isascii() and b"\x00" not in content


register_format(TransformFormat("FSL matrix", (".mat",), _read, holds=_is_text, needs_images=True))
