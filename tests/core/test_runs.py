"""Files that belong together: one mark for a run, names taken together, and what a killed process leaves."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.files import TEMPORARY, clear_killed, own_prefix, provenance, together, write_json, write_text
from histomri.core.images import map_name, sidecar_path, write_map
from histomri.core.provenance import one_run
from histomri.core.runs import require_one_run, run_key
from histomri.pairing.maps import read_mri
from histomri.pairing.section import read_section
from histomri.patches.options import PatchOptions

GRID = np.diag([0.4, 0.4, 2.0, 1.0])


def section(folder, key, names=("vCS", "F", "CD")):
    with one_run("patches", lambda: key):
        for name in names:
            write_map(folder / map_name(name, "histomap", sub="a"), np.full((3, 4), 9.0), GRID)


def fits(folder, key, names=("vCS", "F")):
    with one_run("fit", lambda: key):
        for name in names:
            path = folder / map_name(name, "dwimap", sub="a", model="diffin")
            write_map(path, np.full((3, 4, 2), 9.0), GRID, Model="diff-in", Strategy="whole")


def test_maps_of_two_runs_are_refused_and_both_are_named(tmp_path):
    section(tmp_path / "histo", "a" * 64)
    fits(tmp_path / "mri" / "whole", "b" * 64)
    fits(tmp_path / "mri" / "high-b", "c" * 64, names=("BIC",))  # each folder is a set of its own
    assert set(read_section(tmp_path / "histo").maps) >= {"vCS", "F"}
    section(tmp_path / "histo", "d" * 64, names=("F",))
    said = (
        r"histo: holds maps of two runs of patches: .*CD.* of run aaaaaaaaaaaa, .*F.* of run dddddddddddd; run patches"
    )
    with pytest.raises(InputError, match=said):
        read_section(tmp_path / "histo")
    fits(tmp_path / "mri" / "whole", "e" * 64, names=("vCS",))
    with pytest.raises(
        InputError, match=r"whole: holds maps of two runs of fit: .* of run b{12}, .* of run e{12}; run fit"
    ):
        read_mri(tmp_path / "mri")


def test_maps_without_a_mark_and_of_two_commands_lie_together(tmp_path):
    for name, command in (("vCS", "patches"), ("Ki67", "ki67")):
        with one_run(command, lambda name=name: name * 20):
            write_map(tmp_path / map_name(name, "histomap"), np.ones((3, 4)), GRID, Units="1", Description="x")
    write_map(tmp_path / map_name("F", "histomap"), np.ones((3, 4)), GRID)
    require_one_run(sorted(tmp_path.glob("*.nii.gz")), sidecar_path)
    assert "RunId" not in provenance()["GeneratedBy"][0]


def test_the_mark_is_of_options_and_content_not_of_time_or_place(tmp_path):
    def key(folder, content, **options):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cells.parquet").write_bytes(content)
        return run_key("patches", PatchOptions(cells=tmp_path / folder / "cells.parquet", patch_um=300, **options))

    one = key("x", b"1" * 5_000_000)
    assert one == key("y", b"1" * 5_000_000)
    assert one != key("y", b"1" * 4_999_999 + b"2")
    assert one != key("y", b"1" * 5_000_000, min_cells=2)
    assert one == key("y", b"1" * 5_000_000, preset="mouse-exvivo")


def test_files_take_their_names_together_or_not_at_all(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), together():
        write_text(tmp_path / "a", "new")
        write_text(tmp_path / "b", "new")
        assert (tmp_path / "a").read_text() == "old"
        1 / 0  # noqa: B018
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    with together():
        write_text(tmp_path / "a", "new")
        write_json(tmp_path / "c" / "b", 1)
    assert (tmp_path / "a").read_text() == "new" and json.loads((tmp_path / "c" / "b").read_text()) == 1
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


def test_links_and_read_only_files_are_not_replaced(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "fixed").write_text("mine")
    (tmp_path / "fixed").chmod(0o444)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    for name, said in (("link", "is a link"), ("fixed", "is read-only"), ("nowhere", "is a link")):
        with pytest.raises(InputError, match=f"{name}: {said}, and"):
            write_text(tmp_path / name, "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "fixed").read_text() == "mine" and not (tmp_path / "none").exists()
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_temporaries_of_processes_that_are_gone_are_removed_and_no_others(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    own = own_prefix()
    gone, elsewhere = own.replace(f"-{os.getpid()}-", f"-{done.pid}-"), f"{TEMPORARY}00000000-{done.pid}-"
    names = {f"{gone}x-a.nii.gz": False, f"sub/{gone}y-b": False, f"{own}z-a": True, f"{elsewhere}z-a": True, "a": True}
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_text("x")
    clear_killed(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_as_ctrl_c_does(tmp_path, name):
    script = f"""
import sys, time
from pathlib import Path
import signal
signal.signal(signal.{name}, signal.SIG_DFL)  # as in a terminal: `nohup` would have it ignored
from histomri_cli import app
from histomri.core.files import atomic_path
def work():
    with atomic_path(Path({str(tmp_path)!r}) / "a.csv") as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(30)
app.app = work
app.main()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert [path.name[: len(TEMPORARY)] for path in tmp_path.iterdir()] == [TEMPORARY]
        process.send_signal(getattr(signal, name))
        assert process.wait(20) == 128 + getattr(signal, name)
    assert not list(tmp_path.iterdir())
