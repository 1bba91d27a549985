"""What outlines are: recognised where a table shows it clearly; another kind than it shows is refused."""

from dataclasses import replace

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.core.errors import InputError
from histomri.patches.outlines import recognise_outlines, settle_outlines


def table(rng, n=400, *, rim=None, without=0.0, **metadata):
    """Nuclei of 6 to 10 µm; with a rim of one width, or in cells that are no rims; a share of the cells has none."""
    x, y = rng.uniform(0, 1000, (2, n))
    nucleus = rng.uniform(6, 10, n)
    cell = nucleus + (2 * rim if rim is not None else rng.lognormal(2.0, 0.3, n))
    nuclear = np.where(np.arange(n) < without * n, np.nan, np.pi / 4 * nucleus**2)
    made = CellTable.from_columns(x, y, np.pi / 4 * cell**2)
    return CellTable(made.data.assign(nucleus_area_um2=nuclear), replace(CellMetadata(), **metadata))


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ({"compartment": "nucleus"}, "N"),
        ({"rim": 5.0}, "R"),
        ({"rim": 5.0, "grid": "mask"}, "R"),  # StarDist with an expansion, as labels
        ({"grid": "mask"}, "M"),
        ({"grid": "mask", "without": 0.4}, "E"),
        ({"grid": "mask", "without": 0.05}, None),  # cells cut beside their nucleus, or every cell of dense tissue?
        ({}, None),
        ({"without": 1.0}, None),
    ],
)
def test_kinds_are_recognised_beyond_doubt_only(rng, made, kind):
    cells = table(rng, **made)
    found = recognise_outlines(cells)
    assert found.kind == kind and found.record()["OutlineKind"] == kind
    if kind is None:
        with pytest.raises(InputError, match="does not show what its outlines are"):
            settle_outlines(cells, "auto")
        assert settle_outlines(cells, "E")[1].source == "said"
    else:
        assert settle_outlines(cells, "auto")[0] == kind
        assert settle_outlines(cells, kind)[1].source == f"said, and {found.source}"
    assert bool(found.meanings()) == (kind in ("N", "R"))  # vCS and F of what are no cells say so


@pytest.mark.parametrize(
    ("made", "said"), [({"compartment": "nucleus"}, "R"), ({"rim": 5.0}, "M"), ({"rim": 5.0}, "E")]
)
def test_another_kind_than_the_table_shows_is_refused(rng, made, said):
    with pytest.raises(InputError, match=f"kind {said}") as raised:
        settle_outlines(table(rng, **made), said)
    assert "pass --outline-kind" in raised.value.hint
