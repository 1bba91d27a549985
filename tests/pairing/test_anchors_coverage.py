"""A voxel is paired from half of its weights on."""

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.pairing import pair_maps
from histomri.registration import Transform

GRID = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.mark.parametrize(("shift", "paired"), [(0.5, 4), (0.49, 4), (0.51, 3), (1.0, 3), (0.0, 4)])
def test_half_of_the_weights_is_enough(shift, paired):
    """Histology ends after its fourth column: moved by half a patch, it leaves the fourth voxel half of its weights."""
    values = np.full((6, 8), np.nan)
    values[:, :4] = 15.0
    histology = {"vCS": Image(values, GRID), "F": Image(values / 30, GRID)}
    mri = {name: Image(np.full((6, 8), value), GRID) for name, value in (("vCS", 14.0), ("F", 0.4))}
    moved = np.eye(4)
    moved[1, 3] = -shift
    found = pair_maps(histology, {("m", "s"): mri}, Transform(moved)).data
    assert sorted(found["j"].unique()) == list(range(paired))
    last = found[found["j"] == paired - 1]
    assert len(last) == 6
    # Voxel j takes from columns j and j + 1 by 1 - shift and shift; of the last column only the first is known.
    rest = shift % 1
    np.testing.assert_allclose(last["coverage_histo"], 1 - rest if paired == 4 else 1.0, atol=1e-9)
    np.testing.assert_allclose(found["vCS_histo_um"], 15.0, rtol=1e-12)
