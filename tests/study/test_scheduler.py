"""However the samples are shared out, the outcomes are the same."""

import operator

import pytest

from histomri.errors import InputError
from histomri.study.scheduler import run_tasks


def test_processes_give_what_one_process_gives():
    tasks = [-3, 5, -8]
    assert list(run_tasks(operator.abs, tasks)) == [3, 5, 8]
    assert sorted(run_tasks(operator.abs, tasks, jobs=2)) == [3, 5, 8]


def test_dask_is_asked_for_in_words(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'histomri\[dask\]'"):
        list(run_tasks(operator.abs, [1], dask="local"))
