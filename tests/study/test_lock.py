"""Two runs never work on the same sample of a results folder, and a killed one is in nobody's way."""

import errno
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from histomri.core.errors import InputError, StudyError
from histomri.study import Sample, Study, lock, run_study
from histomri.study.lock import Locks
from histomri.study.pipeline import _gather

HOLD = """
import sys
from pathlib import Path
from histomri.study.lock import Locks
with Locks.of(Path(sys.argv[1])) as locks, locks.on(sys.argv[2:]), locks.together():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(out, *samples):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, out, *samples], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            yield other
        finally:
            other.kill()


@pytest.fixture
def study(tmp_path):
    for name in ("c.tsv", "d.nii.gz"):
        (tmp_path / name).write_text("x")
    samples = [
        Sample(id=name, cells=[tmp_path / "c.tsv"], dwi=tmp_path / "d.nii.gz", protocol="mouse-exvivo")
        for name in ("m1", "m2")
    ]
    return Study(name="two", preset="mouse-exvivo", samples=tuple(samples))


def test_a_sample_belongs_to_one_run_until_that_ends_in_whatever_way(tmp_path):
    with Locks.of(tmp_path / "out") as ours:
        with another_run(tmp_path / "out", "m1") as other:
            assert ours.taken("m1") and not ours.taken("m2") and ours.warnings == ()
            with pytest.raises(StudyError, match="another run is working on sample m1"), ours.on(["m2", "m1"]):
                pass
            with another_run(tmp_path / "elsewhere", "m1"), ours.on(["m2"]):
                pass
            other.kill()
            other.wait()
        with ours.on(["m1"]), ours.together(), another_run(tmp_path / "elsewhere"):
            pass


def test_a_run_waits_for_what_belongs_to_all(tmp_path):
    ended = threading.Event()

    def end():
        ended.set()
        other.kill()

    with Locks.of(tmp_path / "out") as ours, another_run(tmp_path / "out") as other:
        threading.Timer(0.3, end).start()
        with ours.together():
            assert ended.is_set()


def test_where_nothing_can_be_locked_the_run_goes_on_and_says_so(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    with Locks.of(tmp_path) as locks, locks.on(["m1"]), locks.together():
        assert locks.warnings == (
            "files cannot be locked where the results are: no other run may work there meanwhile",
        )
        assert not locks.taken("m1")


def test_without_the_locks_of_unix_a_second_run_is_refused_too(tmp_path):
    """As on Windows and on systems without fcntl: the case of two runs in one process, in a fresh interpreter."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import pathlib\nfrom histomri.study.lock import Locks\nfrom histomri.core.errors import StudyError\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "with Locks.of(out) as a, Locks.of(out) as b, a.on(['s1']):\n"
        "    try:\n        b.on(['s1']).__enter__()\n    except StudyError:\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / lock.FOLDER).write_text("")  # a file where the folder of the locks should be
    with pytest.raises(InputError, match=r"cannot hold the results .*another folder with -o"), Locks.of(tmp_path):
        pass


def test_a_second_run_is_refused_before_it_touches_anything(study, tmp_path):
    with another_run(tmp_path / "out", "m2"), pytest.raises(StudyError, match="working on sample m2"):
        run_study(study, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [lock.FOLDER]


def test_a_sample_of_another_run_is_left_to_it(study, tmp_path):
    """Its record says that it was interrupted, which it was not."""
    (tmp_path / "out" / "sub-m2").mkdir(parents=True)
    (tmp_path / "out" / "sub-m2" / "sample.json").write_text("{")
    with another_run(tmp_path / "out", "m2"), Locks.of(tmp_path / "out") as locks:
        text = "another run is still working on m2, which will be in its tables and report"
        assert _gather(study, tmp_path / "out", {}, locks) == ([], [text])


def test_what_killed_runs_have_left_is_cleared_but_not_what_others_write(study, tmp_path):
    out = tmp_path / "out"
    left = [out / ".writing-1-pairs.csv", out / "statistics" / ".writing-2-correlations.csv"]
    others = [out / "sub-m2" / ".writing-3-cells.parquet", out / "inputs" / ".writing-4-dwi.nii.gz"]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    outcome = run_study(study, out, participants=["m1"])
    assert [sample.status for sample in outcome.samples] == ["failed"]  # there is nothing in its files
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)
