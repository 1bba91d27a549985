"""Which preset is used where none is given."""

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import ProtocolError
from histomri.core.images import read_sidecar
from histomri.core.presets import choose_preset
from histomri.fitting import bounds_warnings, fit, preset_warnings
from histomri.mri import Acquisition
from histomri.simulation import write_protocol


def test_a_protocol_named_after_a_preset_brings_it(tmp_path, monkeypatch):
    assert choose_preset(None, "invivo-1.5t") == "invivo-1.5t"
    assert choose_preset("mouse-exvivo", "invivo-3t") == "mouse-exvivo"
    assert choose_preset(None, "p.txt") == "mouse-exvivo" and choose_preset(None, "p.txt", "invivo-3t") == "invivo-3t"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "invivo-3t").write_text("0 50 100\n")  # a file goes before a name, as `read_acquisition` has it
    assert choose_preset(None, "invivo-3t") == "mouse-exvivo"


def test_commands_take_the_preset_of_the_protocol(run, tmp_path):
    result = run("crlb", "invivo-3t", "-o", tmp_path / "a")
    assert result.exit_code == 0, result.output
    given = run("crlb", "invivo-3t", "--preset", "invivo-3t", "-o", tmp_path / "b")
    assert given.exit_code == 0
    assert (tmp_path / "a" / "crlb.csv").read_text() == (tmp_path / "b" / "crlb.csv").read_text()
    acquisition = Acquisition.preset("invivo-3t")
    decay = acquisition.b_smm2 / 1000 * 1.2
    signals = 1000 * np.exp(-decay + 0.6 * decay**2 / 6 - acquisition.te_ms / 60)
    image = np.broadcast_to(signals, (2, 3, 1, signals.size)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([2.0, 2, 6, 1])), tmp_path / "dwi.nii.gz")
    result = run("dki", tmp_path / "dwi.nii.gz", "--protocol", "invivo-3t", "-o", tmp_path / "mri")
    assert result.exit_code == 0, result.output
    sidecar = read_sidecar(tmp_path / "mri" / "param-ADC_dwimap.nii.gz")
    assert sidecar["BMin"] == 100 and "no --preset" not in result.output


def test_a_preset_that_does_not_fit_is_told(run, tmp_path):
    result = run("crlb", "invivo-3t", "--preset", "mouse-exvivo", "-o", tmp_path)
    message = " ".join(result.output.split())
    assert result.exit_code == 2 and "no measurement has b > 1800" in message
    assert "--preset; in vivo invivo-3t or invivo-1.5t" in message
    acquisition = Acquisition.preset("invivo-3t")
    with pytest.raises(ProtocolError, match="--preset; in vivo invivo-3t"):
        fit(np.ones((1, len(acquisition))), acquisition, strategy="high-b")
    assert "give --preset invivo-3t" in preset_warnings("mouse-exvivo", acquisition)[0]
    assert not preset_warnings("mouse-exvivo", Acquisition.preset("mouse-exvivo"))


def test_a_preset_that_nobody_chose_is_told_by_every_command(run, tmp_path):
    body, mouse = tmp_path / "body.txt", tmp_path / "mouse.txt"
    for path, preset in ((body, "invivo-3t"), (mouse, "mouse-exvivo")):
        write_protocol(path, Acquisition.preset(preset))
    result = run("crlb", body, "--strategy", "whole", "-o", tmp_path / "crlb")
    assert result.exit_code == 0 and "no --preset was given, so mouse-exvivo" in result.stderr
    given = run("crlb", body, "--strategy", "whole", "--preset", "mouse-exvivo", "-o", tmp_path / "crlb")
    assert given.exit_code == 0 and "no --preset" not in given.stderr
    acquisition = Acquisition.preset("mouse-exvivo")
    signals = 1000 * np.exp(-acquisition.b_smm2 / 1000 * 0.8 - acquisition.te_ms / 30)
    image = np.broadcast_to(signals, (2, 3, 1, signals.size)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([2.0, 2, 6, 1])), tmp_path / "dwi.nii.gz")
    base = ("t2ivim", tmp_path / "dwi.nii.gz", "--protocol", mouse, "-o", tmp_path / "t2ivim")
    result = run(*base)
    assert result.exit_code == 0 and "so invivo-3t sets the bounds of T2" in result.stderr
    assert "ex vivo, give --preset mouse-exvivo" in result.stderr
    assert "no --preset" not in run(*base, "--preset", "mouse-exvivo").stderr
    assert not bounds_warnings("invivo-3t", Acquisition.preset("invivo-1.5t"))
