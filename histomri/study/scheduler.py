"""Where the samples of a study are worked on: in this process, in several, or on a Dask cluster.

A process that the system kills, or a worker of the cluster that is lost, costs the task it was working on.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from histomri.core.errors import InputError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
Progress = Callable[[str, str, float], None]  # called with the sample, the step, and the fraction of it that is done
Work = Callable[[Task, Progress], Outcome]
_TOPIC = "histomri-progress"


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """A task that was not finished, and why."""

    task: Task
    reason: str


def run_tasks(
    work: Work[Task, Outcome],
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    dask: str | None = None,
    progress: Progress = lambda sample, step, fraction: None,
) -> Iterator[Outcome | Lost[Task]]:
    """Yield the outcome of `work` for every task, in the order in which they finish.

    Parameters
    ----------
    work : callable
        Called with a task and a function that takes progress; of the module level, so that other processes find it.
    tasks : sequence
        One argument each.
    jobs : int
        Processes on this machine; the cores are shared out among them.
    dask : str, optional
        ``local``, or the address of a scheduler such as ``tcp://host:8786``; takes the place of `jobs`.
    progress : callable, optional
        Called in this process, wherever the work is done.
    """
    if dask is not None:
        yield from _on_dask(work, tasks, dask, progress)
    elif jobs > 1 and len(tasks) > 1:
        yield from _in_processes(work, tasks, min(jobs, len(tasks)), progress)
    else:
        yield from (work(task, progress) for task in tasks)


class _Worker:
    """A process that works on one task after another, and the pipe to it."""

    def __init__(self, work: Work[Any, Any]) -> None:
        # Forking a process in which numba or arrow has started threads can hang, so new ones start from scratch.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None

    def give(self, task: Any) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it has ended; the wait for it will say so
            self.pipe.send(task)

    def receive(self) -> tuple[Any, ...] | None:
        """Return what it sends; None if it has ended."""
        try:
            received: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return received

    def describe_end(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            cause = f"the system ended its process (signal {-code}), as it does when memory runs out"
        else:
            cause = f"its process ended with code {code}"
        return f"{cause}; run the study again, with fewer --jobs if memory is short"


def _in_processes(
    work: Work[Task, Outcome], tasks: Sequence[Task], jobs: int, progress: Progress
) -> Iterator[Outcome | Lost[Task]]:
    waiting = list(reversed(tasks))
    with _share_cores(jobs):
        workers = [_Worker(work) for _ in range(jobs)]
        try:
            for worker in workers:
                worker.give(waiting.pop())
            while workers:
                for pipe in connection.wait([worker.pipe for worker in workers]):
                    worker = next(each for each in workers if each.pipe is pipe)
                    received = worker.receive()
                    if received is not None and received[0] == "progress":
                        progress(*received[1:])
                        continue
                    if received is None:
                        yield Lost(worker.task, worker.describe_end())
                        workers.remove(worker)
                        if waiting:
                            workers.append(_Worker(work))
                            workers[-1].give(waiting.pop())
                        continue
                    if received[0] == "error":
                        raise received[1]
                    yield received[1]
                    if waiting:
                        worker.give(waiting.pop())
                    else:
                        workers.remove(worker)
                        worker.pipe.close()
        finally:
            for worker in workers:
                worker.process.kill()


def _serve(work: Work[Any, Any], pipe: Any) -> None:
    """Work on what comes through a pipe until it is closed."""
    _end_with_parent()
    lock = threading.Lock()

    def send(*content: Any) -> None:
        with lock:
            pipe.send(content)

    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            send("done", work(task, lambda *about: send("progress", *about)))
        except Exception as error:  # noqa: BLE001  # raised again in the process that gave the task
            send("error", error)


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


def _on_dask(
    work: Work[Task, Outcome], tasks: Sequence[Task], address: str, progress: Progress
) -> Iterator[Outcome | Lost[Task]]:
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
        client.subscribe_topic(_TOPIC, lambda event: progress(*event[1]))
        futures = {client.submit(_dask_work, work, task, pure=False, retries=0): task for task in tasks}
        for future in dask_completed(list(futures)):
            problem = future.exception()
            if problem is None:
                yield future.result()
            else:
                yield Lost(futures[future], f"its Dask worker was lost or failed ({type(problem).__name__}: {problem})")


def _dask_work(work: Work[Task, Outcome], task: Task) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    return work(task, lambda *about: worker.log_event(_TOPIC, about))
