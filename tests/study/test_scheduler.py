"""However the samples are shared out, the outcomes are the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from histomri.core.errors import InputError
from histomri.study.scheduler import Lost, run_tasks


def absolute(number, progress):
    progress(str(number), "step", 1.0)
    return abs(number)


def variable(name, progress):
    return os.getenv(name)


def test_processes_give_what_one_process_gives():
    tasks = [-3, 5, -8]
    assert list(run_tasks(absolute, tasks)) == [3, 5, 8]
    assert sorted(run_tasks(absolute, tasks, jobs=2)) == [3, 5, 8]


def test_processes_share_the_cores_and_leave_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    share = str(max(1, (os.cpu_count() or 1) // 2))
    assert list(run_tasks(variable, ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"], jobs=2)) == [share, share]
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

def work(name, progress, folder):
    (Path(folder) / name).write_text(f"{os.getpid()}\\n")
    time.sleep(60)

if __name__ == "__main__":
    list(run_tasks(partial(work, folder=sys.argv[1]), ["one", "two"], jobs=2))
"""


def dying(task, progress):
    if task == "victim":
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_a_process_that_the_system_kills_costs_one_task():
    outcomes = list(run_tasks(dying, ["a", "victim", "b", "c"], jobs=2))
    (lost,) = [each for each in outcomes if isinstance(each, Lost)]
    assert lost.task == "victim" and "signal 9" in lost.reason and "memory" in lost.reason
    assert sorted(each for each in outcomes if not isinstance(each, Lost)) == ["a", "b", "c"]


def failing(task, progress):
    raise InputError("is wrong", path=Path("x"))


def test_a_fault_of_the_work_itself_is_raised_here():
    with pytest.raises(InputError, match="is wrong"):
        list(run_tasks(failing, [1, 2], jobs=2))


def test_progress_arrives_from_other_processes():
    seen = []
    list(run_tasks(absolute, [-3, 5], jobs=2, progress=lambda *about: seen.append(about)))
    assert sorted(seen) == [("-3", "step", 1.0), ("5", "step", 1.0)]


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
        list(run_tasks(absolute, [1], dask="local"))


@pytest.mark.filterwarnings("default")  # distributed has warnings of its own
def test_dask_gives_what_one_process_gives():
    pytest.importorskip("distributed", reason="Dask is an optional extra and not installed")
    seen = []
    found = run_tasks(absolute, [-3, 5, -8], dask="local", progress=lambda *about: seen.append(about))
    assert sorted(found) == [3, 5, 8]
    assert set(seen) <= {("-3", "step", 1.0), ("5", "step", 1.0), ("-8", "step", 1.0)}


@pytest.mark.filterwarnings("default")
def test_a_lost_worker_of_the_cluster_costs_one_task():
    outcomes = list(run_tasks(dying, ["victim"], dask="local"))
    assert isinstance(outcomes[0], Lost) and "KilledWorker" in outcomes[0].reason


def test_an_address_without_a_scheduler_is_told():
    pytest.importorskip("distributed", reason="Dask is an optional extra and not installed")
    with pytest.raises(InputError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        list(run_tasks(absolute, [1], dask="tcp://127.0.0.1:1"))
