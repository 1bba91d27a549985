import numpy as np
import pytest

from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import PRESETS
from histomri.mri import Acquisition, pulse_pair, read_acquisition

MIXED = Acquisition([0, 900, 1100], [0, 1 / 3, 9], [0, 20.1, 30], None, [None, pulse_pair(1 / 3, 20.1), None])


@pytest.mark.parametrize("protocol", [*map(Acquisition.preset, PRESETS), MIXED], ids=[*PRESETS, "mixed"])
def test_a_protocol_comes_back_as_it_was(tmp_path, protocol):
    path = protocol.save(tmp_path / "protocol.json")
    for back in (Acquisition.load(path), read_acquisition(path)):
        for name in ("b_smm2", "delta_ms", "Delta_ms", "te_ms"):
            np.testing.assert_array_equal(getattr(back, name), getattr(protocol, name))
        assert back.waveforms == protocol.waveforms
        assert back.encodings()[0] == protocol.encodings()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a JSON object"),
        ('{"b_smm2": [0, 1000]}', "has no delta_ms, Delta_ms"),
        ('{"b_smm2": [0, 1000], "delta_ms": [0, "x"], "Delta_ms": [0, 30]}', "no saved protocol"),
        ('{"b_smm2": [0, 1000], "delta_ms": [0, 10], "Delta_ms": [0]}', "2 b-values and 1 values"),
        ('{"b_smm2": [1000], "delta_ms": [9], "Delta_ms": [30], "shapes": [{"start_ms": [0]}]}', "no saved protocol"),
    ],
)
def test_what_is_no_protocol_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ProtocolError, match=message) as caught:
        Acquisition.load(path)
    assert caught.value.path == path
    with pytest.raises(InputError, match="no such protocol file"):
        Acquisition.load(tmp_path / "none.json")
