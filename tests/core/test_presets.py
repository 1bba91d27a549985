"""One declaration per preset, read by every room."""

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.presets import CORRECTIONS, PRESETS, STRATEGIES, choose_preset, get_preset, names_preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_is_complete(preset):
    assert preset.histology in CORRECTIONS
    assert tuple(preset.bmin_smm2) == STRATEGIES
    for low, high in (*preset.bounds.values(), *preset.t2ivim.values()):
        assert 0 <= low < high
    for block in preset.protocol:
        timing = [block.delta_ms, block.Delta_ms]
        assert bool(block.lobes_ms) != all(timing)
        assert all(len(row) == len(block.b_smm2) for row in timing if row)


def test_the_numbers_of_the_paper():
    mouse = get_preset("mouse-exvivo")
    assert (CORRECTIONS["mouse-exvivo"].shrinkage, CORRECTIONS["human-biopsy"].shrinkage) == (0.129, 0.153)
    assert mouse.bmin_smm2 == {"whole": 1000.0, "high-b": 1800.0}
    assert get_preset("invivo-3t").bmin_smm2 == {"whole": 100.0, "high-b": 900.0}
    assert (mouse.bounds["D0I"], get_preset("invivo-1.5t").bounds["D0I"]) == ((0.8, 2.6), (0.8, 3.0))
    assert np.array_equal(mouse.protocol[0].b_smm2, np.linspace(0.0, 2800.0, 10))
    timing = [(block.te_ms, block.Delta_ms[0]) for block in mouse.protocol]
    assert timing == [(31, 15), (45, 15), (65, 15), (45, 30), (65, 30)]
    assert [preset.free_water_um2_ms for preset in PRESETS.values()] == [2.4, 3.0, 3.0]
    assert [preset.histology for preset in PRESETS.values()] == ["mouse-exvivo", "human-biopsy", "human-biopsy"]


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match=r"no preset 'invivo-7t'; choose among mouse-exvivo, invivo-3t, invivo-1.5t"):
        choose_preset("invivo-7t", "p.txt")


def test_a_file_named_like_a_preset_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names_preset("invivo-3t")
    (tmp_path / "invivo-3t").write_text("0 0 0\n")
    assert not names_preset("invivo-3t")
