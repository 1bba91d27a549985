"""Standard errors of vCS from draws: in even tissue the means of patches differ by chance, which takes nothing away."""

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, summarise_patches

Z95 = 1.959964


def vcs(size):
    return (np.mean(size**7, axis=-1) / np.mean(size**3, axis=-1)) ** 0.25


@pytest.mark.parametrize("per_patch", [2, 3])
def test_means_of_few_cells_differ_by_chance_alone(rng, per_patch):
    patches, pitch = 120, 50.0
    size = rng.lognormal(2.5, 0.2, (patches**2, per_patch))
    j, i = np.meshgrid(np.arange(patches), np.arange(patches))
    x, y = ((k.reshape(-1, 1) + rng.uniform(0.01, 0.99, size.shape)).ravel() * pitch for k in (j, i))
    field = CellMetadata(field_um=(patches * pitch, patches * pitch))
    cells = CellTable.from_columns(x, y, np.pi / 4 * size.ravel() ** 2, metadata=field)
    grid = PatchGrid((0, 0), (pitch, pitch), (patches, patches))
    found = summarise_patches(cells, grid, section="none", shrinkage=0.0)
    relative = found.errors["vCS"] / found.maps["vCS"]
    assert np.ptp(relative) < 1e-9  # all patches have as many cells
    truth = (np.exp(2.5 * 7 + 0.02 * 49) / np.exp(2.5 * 3 + 0.02 * 9)) ** 0.25  # moments of lognormal sizes
    off = np.abs(1 - truth / vcs(rng.lognormal(2.5, 0.2, (200_000, per_patch))))
    # 2000 draws know the 95 % quantile to 2.1 %. That the patches are alike is itself estimated: a spread between them
    # of 2 % of what chance makes, as may be found with 14,400 patches, takes up to 8 % off. Taking none of the chance
    # for it, or (n - 1) / n of it, would be 29 % off and more.
    assert relative.flat[0] == pytest.approx(np.quantile(off, 0.95) / Z95, rel=0.14)
