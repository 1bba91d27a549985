"""Matrices of AFNI's 3dAllineate (.aff12.1D), read by nitransforms.

AFNI stores the pull in LPS mm of images without their obliquity, so both images must be known.
"""

from pathlib import Path

from histomri.core.errors import InputError
from histomri.registration.io.pulled import from_pull, nifti_like, read_numbers
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform


def _read(path: Path, images: Images) -> Transform:
    from nitransforms.io.afni import AFNILinearTransform

    rows = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip() and line.strip()[0] != "#"]
    if len(rows) not in (1, 3):  # in one row, or as a matrix
        raise InputError(f"holds {len(rows)} rows, and one affine was expected")
    read_numbers(" ".join(rows), 12)
    moving, fixed = nifti_like(images)
    return from_pull(AFNILinearTransform.from_string(" ".join(rows)).to_ras(moving=moving, reference=fixed), path)


register_format(TransformFormat("AFNI matrix", (".1d",), _read, needs_images=True))
