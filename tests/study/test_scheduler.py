"""However the samples are shared out, the outcomes are the same."""

import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from histomri.core.errors import InputError
from histomri.study.scheduler import run_tasks


def test_processes_give_what_one_process_gives():
    tasks = [-3, 5, -8]
    assert list(run_tasks(operator.abs, tasks)) == [3, 5, 8]
    assert sorted(run_tasks(operator.abs, tasks, jobs=2)) == [3, 5, 8]


def test_processes_share_the_cores_and_leave_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    share = str(max(1, (os.cpu_count() or 1) // 2))
    assert list(run_tasks(os.getenv, ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"], jobs=2)) == [share, share]
    assert os.environ["OMP_NUM_THREADS"] == "7" and "NUMBA_NUM_THREADS" not in os.environ


def test_processes_end_when_the_run_is_killed(tmp_path):
    """Otherwise they would wait for ever, and one at work would write into what the next run makes."""
    script = tmp_path / "work.py"
    script.write_text(WORK)
    run = subprocess.Popen([sys.executable, script, tmp_path])
    pids = [int(_content_of(tmp_path / name)) for name in ("one", "two")]
    run.kill()
    run.wait()
    for pid in pids:
        _wait_for(lambda pid=pid: not _lives(pid))


WORK = """
import os, sys, time
from functools import partial
from pathlib import Path
from histomri.study.scheduler import run_tasks

def work(name, folder):
    (Path(folder) / name).write_text(f"{os.getpid()}\\n")
    time.sleep(60)

if __name__ == "__main__":
    list(run_tasks(partial(work, folder=sys.argv[1]), ["one", "two"], jobs=2))
"""


def _content_of(path):
    _wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text()


def _lives(pid):
    """Tell whether a process runs; one that has ended may stay listed where nobody asks for its exit code."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def _wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened within a minute")


def test_dask_is_asked_for_in_words(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'histomri\[dask\]'"):
        list(run_tasks(operator.abs, [1], dask="local"))


@pytest.mark.filterwarnings("default")  # distributed has warnings of its own
def test_dask_gives_what_one_process_gives():
    pytest.importorskip("distributed", reason="Dask is an optional extra and not installed")
    assert sorted(run_tasks(operator.abs, [-3, 5, -8], dask="local")) == [3, 5, 8]


def test_an_address_without_a_scheduler_is_told():
    pytest.importorskip("distributed", reason="Dask is an optional extra and not installed")
    with pytest.raises(InputError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        list(run_tasks(operator.abs, [1], dask="tcp://127.0.0.1:1"))
