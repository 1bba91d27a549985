"""What speaks against a transform made from landmarks alone, beyond how well the landmarks fit each other.

Points can fit each other perfectly and mean something else: moving and fixed swapped, a sign of another convention, a
wrong pixel size, another unit. The images tell.
"""

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import InputError
from histomri.maps import Image
from histomri.registration.assess import overlap
from histomri.registration.quality import Verdict
from histomri.registration.refine import SIZE_RANGE
from histomri.registration.transform import Transform

GOOD_OVERLAP = 0.80
LEAST_OVERLAP = 0.50
_CLEARLY_BETTER = 0.05
_MARGIN = 0.1


def question_landmarks(
    transform: Transform,
    pairs: FloatArray,
    size: float,
    images: tuple[Image, Image],
    *,
    masks: tuple[Image | None, Image | None] = (None, None),
    shrinkage: float,
) -> tuple[Verdict, list[str]]:
    """Return what size, overlap and places of the landmarks say.

    Parameters
    ----------
    transform : Transform
        Moving world to fixed world.
    pairs : (N, 2, 3) ndarray
        Moving and fixed points, world mm.
    size : float
        Size of the section relative to the MRI.
    images : (Image, Image)
        The section and the slice of the MRI.
    masks : (Image or None, Image or None)
        Their tissue; found in the images where None.
    shrinkage : float
        Expected linear shrinkage of the section.

    Returns
    -------
    verdict, reasons
        "failed" if the tissues hardly overlap, if most points lie outside an image, or if both size and overlap are
        in doubt; "check" if anything is.
    """
    low, high = (1 - shrinkage) * np.array(SIZE_RANGE)
    wrong_size = not low <= size <= high
    reasons = []
    if wrong_size:
        reasons.append(
            f"the landmarks make the section {100 * size:.0f} % of the MRI's size, and shrinkage allows "
            f"{100 * low:.0f} to {100 * high:.0f} %: check the pixel size, and that moving and fixed are not swapped"
        )
    failed = False
    for points, image, what in zip(pairs.swapaxes(0, 1), images, ("moving", "fixed"), strict=True):
        outside = _outside(points, image)
        if outside:
            reasons.append(f"{outside} of {len(points)} {what} landmarks lie outside the {what} image: check the units")
        failed |= 2 * outside > len(points)
    try:
        dice = overlap(transform, *images, moving_mask=masks[0], fixed_mask=masks[1])
    except InputError as error:
        reasons.append(f"the overlap of the tissues is not known ({error.problem})")
        dice = GOOD_OVERLAP
    else:
        reasons += _better_signs(transform, images, masks)
    if dice < GOOD_OVERLAP:
        reasons.append(
            f"the tissues overlap poorly (Dice {dice:.2f}; good is {GOOD_OVERLAP:.2f} or more): check the signs (LPS "
            "or RAS), the units and the masks"
        )
    if failed or dice < LEAST_OVERLAP or (wrong_size and dice < GOOD_OVERLAP):
        return "failed", reasons
    return ("check", reasons) if reasons else ("good", [])


def _better_signs(
    transform: Transform, images: tuple[Image, Image], masks: tuple[Image | None, Image | None]
) -> list[str]:
    """Return a reason if the tissues overlap better where x or y of either world change their sign, as LPS and RAS do.

    A mirrored section is about as large and as central as the true one, so its overlap alone may look well.
    """

    def dice(matrix: FloatArray) -> float:
        return overlap(Transform(matrix), *images, moving_mask=masks[0], fixed_mask=masks[1])

    tried = []
    for signs, axes in (((-1, 1), "x"), ((1, -1), "y"), ((-1, -1), "x and y")):
        turned = np.diag([*signs, 1.0, 1.0])
        tried += [(dice(turned @ transform.matrix), axes, "fixed"), (dice(transform.matrix @ turned), axes, "moving")]
    own, (best, axes, what) = dice(transform.matrix), max(tried)
    if best <= own + _CLEARLY_BETTER:
        return []
    return [
        f"with another sign of {axes} in the {what} landmarks the tissues overlap better "
        f"(Dice {best:.2f}, {own:.2f} as given): check LPS or RAS"
    ]


def _outside(points: FloatArray, image: Image) -> int:
    """Count the points that lie beside the image by more than a tenth of its sides."""
    index = (np.linalg.inv(image.affine) @ np.column_stack([points, np.ones(len(points))]).T)[:2].T
    share = (index + 0.5) / np.array(image.data.shape[:2])
    return int(((share < -_MARGIN) | (share > 1 + _MARGIN)).any(axis=1).sum())
