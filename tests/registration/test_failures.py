"""What must never be a silent wrong map: an error, a verdict other than good, or the right place."""

import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration import register
from histomri.registration.outlines import tissue_mask

TWO_PIXELS_UM = 772


def never_silently_wrong(pair, found, error_um=None):
    """A match is called good only if it lies within two pixels."""
    error = pair.error_um(found) if error_um is None else error_um
    assert found.verdict != "good" or error < TWO_PIXELS_UM, (found.verdict, error)


def without(pair, lost):
    """Return the section, and its mask, without the part where `lost` of world x, y is true."""
    parts = []
    for image, nothing in ((pair.moving, np.nan), (pair.mask, 0.0)):
        i, j = np.indices(image.data.shape)
        x, y = (np.stack([i, j, 0 * i, 0 * i + 1], axis=-1) @ image.affine.T)[..., :2].transpose(2, 0, 1)
        parts.append(Image(np.where(lost(x, y), nothing, image.data), image.affine))
    return parts


@pytest.mark.parametrize("angle", [0, 120])
def test_half_of_the_section_is_missing(make_pair, angle):
    pair = make_pair(angle)
    moving, mask = without(pair, lambda x, y: x > 0.5)
    found = register(moving, pair.fixed, moving_mask=mask)
    never_silently_wrong(pair, found)


def test_mask_that_includes_the_tube(make_pair):
    pair = make_pair(40)
    i, j = np.indices(pair.fixed.data.shape)
    tube = Image((np.hypot(i - 39.5, j - 36.5) < 33).astype(float), pair.fixed.affine)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, fixed_mask=tube)
    assert found.verdict != "good"


def test_tissue_in_bright_fluid_needs_a_mask(make_pair, rng):
    pair = make_pair(40)
    signal = np.where(pair.fixed.data > 0, 1.0, 1.8)
    fluid = Image(np.hypot(signal + rng.normal(0, 0.05, signal.shape), 0.05), pair.fixed.affine)
    with pytest.raises(InputError, match="bright along 100 % of its border") as refused:
        register(pair.moving, fluid, moving_mask=pair.mask)
    assert "mask" in str(refused.value.hint)
    found = register(pair.moving, fluid, moving_mask=pair.mask, fixed_mask=pair.fixed)
    assert found.verdict == "good"
    assert pair.error_um(found) < 50


def test_both_images_in_micrometres(make_pair):
    pair = make_pair(40)
    scaled = [Image(image.data, np.diag([1e3, 1e3, 1e3, 1]) @ image.affine) for image in (pair.moving, pair.fixed)]
    with pytest.raises(GeometryError, match="mm across") as refused:
        register(*scaled)
    assert "µm" in str(refused.value.hint)


@pytest.mark.parametrize(("order", "slices"), [((0, 2, 1), 5), ((2, 0, 1), 5), ((0, 2, 1), 1)])
def test_slices_along_another_axis(make_pair, order, slices):
    pair = make_pair(40)
    stack = np.repeat(pair.fixed.data[:, :, None], slices, axis=2)
    affine = pair.fixed.affine.copy()
    affine[2, 2] = 2.0
    turned = Image(stack.transpose(order), affine[:, [*order, 3]])
    with pytest.raises(GeometryError, match=f"along axis {1 + order.index(2)} "):
        register(pair.moving, turned, moving_mask=pair.mask)


def test_an_angle_that_is_no_number(make_pair):
    pair = make_pair(40)
    with pytest.raises(InputError, match="an angle of nan"):
        register(pair.moving, pair.fixed, moving_mask=pair.mask, angle_deg=float("nan"))


def test_where_no_slice_will_do_the_reason_is_that_of_the_one_with_most_tissue(make_pair):
    pair = make_pair(40)
    empty = np.zeros_like(pair.fixed.data)
    stack = Image(np.stack([empty, pair.fixed.data, empty], axis=2), np.diag([3.0, 3.0, 2.0, 1.0]) @ pair.fixed.affine)
    with pytest.raises(GeometryError, match="the section is about"):
        register(pair.moving, stack, moving_mask=pair.mask)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_wrong_pixel_size(make_pair, factor):
    pair = make_pair(-70)
    scaled = [Image(image.data, np.diag([factor, factor, 1, 1]) @ image.affine) for image in (pair.moving, pair.mask)]
    found = register(scaled[0], pair.fixed, moving_mask=scaled[1])
    assert found.verdict != "good"
    if factor < 1:  # a section that is too large may fit better elsewhere than at the edge of what shrinkage allows
        assert any("pixel sizes" in reason for reason in found.qc["reasons"])


def test_a_side_that_is_excluded_and_fits_better_is_reported(make_pair):
    pair = make_pair(10, True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, flips=False)
    assert not any(candidate.turned_over for candidate in found.candidates)
    assert found.verdict != "good"
    assert any("was excluded" in reason for reason in found.qc["reasons"])
    assert found.qc["ruled_out"] > 0.1


def test_mirrored_header(make_pair):
    # The header says that the picture is mirrored: its content is then found turned over, and every pixel still lands
    # on the right pixel of the MRI; what cannot be told from an outline is which of the two headers is wrong.
    pair = make_pair(25)
    mirror = np.diag([-1.0, 1, 1, 1])
    moving, mask = (Image(image.data, mirror @ image.affine) for image in (pair.moving, pair.mask))
    found = register(moving, pair.fixed, moving_mask=mask)
    assert found.qc["turned_over"] is True
    points = np.array([[1.0, 2, 0], [-3, 4, 0], [5, -1, 0]])
    error = np.linalg.norm(found.points(points @ mirror[:3, :3]) - pair.truth.points(points), axis=1)
    assert error.max() < 0.1
    assert np.linalg.det(found.matrix[:3, :3]) > 0
    told = register(moving, pair.fixed, moving_mask=mask, flips=False, kind="affine")
    assert told.verdict != "good"


@pytest.mark.parametrize(("gap_mm", "alike", "doubted"), [(1.0, True, True), (0.3, True, False), (1.0, False, False)])
def test_a_slice_that_cannot_be_told_from_its_neighbour_is_doubted(make_pair, gap_mm, alike, doubted):
    # Two slices 0.3 mm apart are within two pixels of each other, so that either will do.
    pair = make_pair(40)
    other = pair.fixed.data if alike else np.roll(pair.fixed.data, 12, axis=0) * pair.fixed.data
    affine = pair.fixed.affine.copy()
    affine[2, 2] = gap_mm
    stack = Image(np.stack([other, pair.fixed.data], axis=2), affine)
    found = register(pair.moving, stack, moving_mask=pair.mask)
    reasons = [reason for reason in found.qc["reasons"] if "fits nearly as well as slice" in reason]
    assert (found.verdict == "check") is bool(reasons) is doubted
    if doubted:
        assert reasons[0].startswith(f"slice {1 - found.slice}, 1 mm away, fits nearly as well as slice {found.slice}")
    pinned = register(pair.moving, stack, moving_mask=pair.mask, slices=1)
    assert pinned.verdict == "good"
    assert pinned.slice == 1


def test_landmarks_with_moving_and_fixed_swapped(make_pair):
    pair = make_pair(65, shift=(3.0, -2.0))
    moving = np.array([[1.0, 5, 0], [-5, 4, 0], [5, -3, 0], [-2, -5, 0]])
    pairs = np.stack([pair.truth.points(moving), moving], axis=1)
    try:
        found = register(pair.moving, pair.fixed, moving_mask=pair.mask, landmarks=pairs)
    except GeometryError:
        return
    never_silently_wrong(pair, found)


def test_landmarks_in_the_wrong_order(make_pair):
    pair = make_pair(65)
    moving = np.array([[1.0, 5, 0], [-5, 4, 0], [5, -3, 0], [-2, -5, 0]])
    pairs = np.stack([moving, pair.truth.points(moving)[[1, 3, 0, 2]]], axis=1)
    with pytest.raises(GeometryError, match="same order"):
        register(pair.moving, pair.fixed, moving_mask=pair.mask, landmarks=pairs)


def test_another_organ_is_not_called_good(make_pair):
    pair = make_pair()
    i, j = np.indices(pair.fixed.data.shape)
    bar = Image(np.where((np.abs(i - 40) < 30) & (np.abs(j - 37) < 9), 1.0, 0.0), pair.fixed.affine)
    assert register(pair.moving, bar, moving_mask=pair.mask).verdict != "good"


def test_a_voxel_that_is_not_known_is_no_background(rng):
    data = np.abs(rng.normal(0, 1, (40, 30)))
    data[10:30, 8:22] += 100
    expected = tissue_mask(Image(data, np.eye(4)))
    data[20, 15], data[3, 3] = np.nan, np.inf
    assert tissue_mask(Image(data, np.eye(4)))[10:30, 8:22].sum() >= expected.sum() - 1
    assert tissue_mask(Image(data, np.eye(4))).sum() <= expected.sum() + 1
    data[0, 0] = np.nan  # what was not measured reaches the border, as around a map of histology
    assert tissue_mask(Image(data, np.eye(4))).sum() == 40 * 30 - 3


@pytest.mark.parametrize("last", [3, 4])
def test_few_slices_are_not_taken_for_colours(rng, last):
    data = np.abs(rng.normal(0, 1, (40, 30, last)))
    data[10:30, 8:22] += 100
    mask = tissue_mask(Image(data, np.eye(4)))  # a warning of skimage would be an error here
    assert mask[12:28, 10:20].all()
    assert mask.sum() == 20 * 14 * last
