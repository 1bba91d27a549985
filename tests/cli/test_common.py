"""What every command prints, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from histomri.core.errors import InputError
from histomri.study import StepResult
from histomri_cli.app import app
from histomri_cli.common import HistomriGroup, announce, report_compiling


def test_every_file_is_named_and_sidecars_with_their_maps(capsys):
    maps = [Path("mri") / f"param-{name}_dwimap{suffix}" for name in "ABCD" for suffix in (".nii.gz", ".json")]
    announce(
        StepResult((*maps, Path("mri/notes.txt"), Path("out/x.csv")), ("12 voxels",), ("look twice",)), quiet=False
    )
    printed = capsys.readouterr()
    assert printed.err == "warning: look twice\n"
    assert printed.out.splitlines() == [
        "12 voxels",
        *[f"wrote mri/param-{name}_dwimap.nii.gz and its .json" for name in "ABCD"],
        "wrote mri/notes.txt",
        "wrote out/x.csv",
    ]


def test_quiet_leaves_the_warnings(capsys):
    announce(StepResult((Path("x.csv"),), ("done",), ("look twice",)), quiet=True)
    assert tuple(capsys.readouterr()) == ("", "warning: look twice\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("is empty", path="a.tsv", hint="export again"), "error: a.tsv: is empty; export again"),
        (FileNotFoundError(2, "No such file or directory", "b.nii"), "error: b.nii: No such file or directory"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(error, message):
    broken = typer.Typer(cls=HistomriGroup)

    @broken.command()
    def fail() -> None:
        raise error

    @broken.command()
    def other() -> None: ...

    result = CliRunner().invoke(broken, ["fail"])
    assert result.exit_code == 2
    assert result.stderr.strip() == message


def test_a_fault_of_ours_is_not_hidden():
    broken = typer.Typer(cls=HistomriGroup)

    @broken.command()
    def fail() -> None:
        raise KeyError("bug")

    @broken.command()
    def other() -> None: ...

    assert isinstance(CliRunner().invoke(broken, ["fail"]).exception, KeyError)


@pytest.mark.parametrize("command", sorted(info.callback.__name__ for info in app.registered_commands))
def test_help_of_every_command_has_an_example(command):
    result = CliRunner().invoke(app, [command.replace("_", "-"), "--help"])
    assert result.exit_code == 0
    assert "Example: histomri" in result.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["power", "--r", "0.4", "--out", "{out}"]], ids=["help", "results"])
def test_a_reader_that_has_read_enough_hears_nothing(tmp_path, arguments, unbuffered):
    """As in `histomri .. | head -1`, at the worst moment: the reader is gone before the first line is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from histomri_cli.app import main; main()"]
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [*command, *(text.format(out=tmp_path) for text in arguments)],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_help_loads_nothing_heavy():
    """The help must come at once; numpy alone would take a tenth of a second, scipy and the rest seconds."""
    code = (
        "import sys\nfrom histomri_cli.app import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'numba', 'matplotlib', 'nibabel', 'dipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_compiling_is_told_once_and_what_is_cached_is_not(capsys):
    from numba import njit
    from numba.core import event

    def fit_voxels(x):
        return x + 1

    def other(x):
        return x + 2

    with report_compiling(quiet=False):
        assert njit(other)(1) == 3
        kernel = njit(fit_voxels)
        assert capsys.readouterr().err == ""
        assert kernel(1) == 2 and kernel(1.0) == 2  # compiled for either type
        assert capsys.readouterr().err == "compiling the fitting kernels (once after installation)\n"
    with report_compiling(quiet=False):
        assert kernel(2) == 3
    with report_compiling(quiet=True):
        assert kernel(2j) == 1 + 2j
    assert capsys.readouterr().err == "" and not event._registered["numba:compile"]
