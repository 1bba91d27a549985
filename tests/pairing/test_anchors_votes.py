"""The vote of the voxels, counted by hand where models are equal."""

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.pairing import pair_maps

AFFINE = np.diag([0.4, 0.5, 2.0, 1.0])


def test_equal_models_share_the_vote_of_a_voxel():
    plain = {name: Image(np.full((2, 3), value), AFFINE) for name, value in (("vCS", 15.0), ("F", 0.5))}
    criteria = {
        "first": [[1, 2, 5], [4, 7, np.nan]],
        "second": [[1, 3, 5], [3, 7, 1]],
        "third": [[1, 9, 8], [6, 8, 1]],
    }
    fits = {
        (name, "whole"): plain | {"BIC": Image(np.array(values, float), AFFINE)} for name, values in criteria.items()
    }
    rows = pair_maps(plain, fits).per_sample().set_index("model")
    # Of five voxels that know all three: shared by three, first, shared by two, second, shared by two.
    shares = {"first": (1 / 3 + 1 + 1 / 2 + 1 / 2) / 5, "second": (1 / 3 + 1 / 2 + 1 + 1 / 2) / 5, "third": 1 / 3 / 5}
    assert rows["BIC_vote"].to_dict() == pytest.approx(shares, rel=1e-12)
    assert rows["BIC_vote"].sum() == pytest.approx(1, rel=1e-12)
    assert not rows["BIC_best"].any()  # two are ahead alike
