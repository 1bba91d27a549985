"""Where the samples of a study are worked on: in this process, in several, or on a Dask cluster."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import connection
from typing import TypeVar

from histomri.core.errors import InputError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def run_tasks(
    work: Callable[[Task], Outcome], tasks: Sequence[Task], *, jobs: int = 1, dask: str | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of `work` for every task, in the order in which they finish.

    Parameters
    ----------
    work : callable
        A function of the module level, so that other processes can find it.
    tasks : sequence
        One argument each.
    jobs : int
        Processes on this machine; the cores are shared out among them.
    dask : str, optional
        ``local``, or the address of a scheduler such as ``tcp://host:8786``; takes the place of `jobs`.
    """
    if dask is not None:
        yield from _on_dask(work, tasks, dask)
    elif jobs > 1 and len(tasks) > 1:
        yield from _in_processes(work, tasks, min(jobs, len(tasks)))
    else:
        yield from map(work, tasks)


def _in_processes(work: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    # Forking a process in which numba or arrow has started threads can hang, so new ones are started from scratch.
    context = multiprocessing.get_context("spawn")
    with _share_cores(jobs), ProcessPoolExecutor(jobs, context, _end_with_parent) as pool:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: nobody would collect what it does, or wake it again."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _share_cores(jobs: int) -> Iterator[None]:
    """Let processes started within use their share of the cores; numpy and numba read it once, when they load."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(max(1, (os.cpu_count() or 1) // jobs))))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _on_dask(work: Callable[[Task], Outcome], tasks: Sequence[Task], address: str) -> Iterator[Outcome]:
    try:
        from distributed import Client
        from distributed import as_completed as dask_completed
    except ModuleNotFoundError as error:
        raise InputError("Dask is not installed", hint="pip install 'histomri[dask]', or use --jobs") from error
    try:
        client = Client() if address == "local" else Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address!r} ({error})") from error
    with client:
        for _, outcome in dask_completed(client.map(work, tasks, pure=False), with_results=True):
            yield outcome
