"""A tissue model with the known parameters is one declaration: commands, study, pairing and report follow from it."""

import subprocess
import sys

import nibabel as nib
import numpy as np

from histomri.fitting import predict
from histomri.mri import Acquisition

SCRIPT = """
import importlib.util, pathlib, sys

# The one file that a developer would change.
spec = importlib.util.find_spec("histomri.fitting.models")
source = pathlib.Path(spec.origin).read_text(encoding="utf-8")
line = 'Model("diff-in-slow", "Diff-in-slow", ("fI", "D0I", "vCS", "DEinf"), {"DEinf": (None, 1.5)}),'
changed = source.replace('Model("diff-in", ', line + ' Model("diff-in", ', 1)
assert changed != source
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
exec(compile(changed, spec.origin, "exec"), module.__dict__)

from typer.testing import CliRunner
from histomri_cli.app import app
from histomri.fitting.options import CrlbOptions, FitOptions
from histomri.pairing.maps import read_mri

folder = pathlib.Path(sys.argv[1])
assert "diff-in-slow" in CliRunner(env={"COLUMNS": "300"}).invoke(app, ["fit", "--help"]).stdout
FitOptions.read(dwi=folder / "dwi.nii.gz", protocol="mouse-exvivo", models=("diff-in-slow",))
CrlbOptions.read(protocol="mouse-exvivo", models=("diff-in-slow",))
words = "--protocol mouse-exvivo --model diff-in-slow --strategy whole -o".split()
done = CliRunner().invoke(app, ["fit", str(folder / "dwi.nii.gz"), *words, str(folder / "mri" / "whole")])
assert done.exit_code == 0 and "Diff-in-slow (whole" in done.stdout, done.output
fits, _, _ = read_mri(folder / "mri")
assert list(fits) == [("diff-in-slow", "whole")], fits
assert fits["diff-in-slow", "whole"]["DEinf"].data.max() <= 1.5 + 1e-6
"""


def test_a_model_is_declared_in_one_file(tmp_path):
    mouse = Acquisition.preset("mouse-exvivo")
    signals = predict("diff-in-ex", {"fI": 0.6, "D0I": 1.5, "vCS": np.linspace(10, 20, 6), "DEinf": 1.2}, mouse)
    nib.save(nib.Nifti1Image(signals.reshape(2, 3, 1, 50).astype(np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
