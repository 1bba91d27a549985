"""One run at a time for each sample of a results folder: two would clear each other's files while they are written.

The system lets go of a lock when the process that holds it ends, in whatever way, so a killed run leaves none behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from filelock import BaseFileLock, FileLock, Timeout

from histomri.core.errors import InputError, StudyError

FOLDER = ".locks"
_ALL = "study"  # stands, in place of an id, for what belongs to all samples: tables, scores, report


class Locks:
    """The locks of a results folder: a file for each sample, and one for what belongs to all.

    Attributes
    ----------
    warnings : tuple of str
        Where the system cannot lock files nothing is held, and this says so.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._works, self.warnings = out, True, tuple[str, ...]()
        try:
            self.taken(_ALL)
        except (OSError, NotImplementedError):
            self._works = False
            self.warnings = ("files cannot be locked where the results are: no other run may work there meanwhile",)

    @classmethod
    @contextmanager
    def of(cls, out: Path) -> Iterator[Self]:
        """Open the locks of a results folder, which is made if missing."""
        try:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # of a colleague's folder; in one for a group each must be able to lock
                (out / FOLDER).chmod(0o777)
        except OSError as error:
            raise InputError(
                f"cannot hold the results ({error.strerror or error})",
                path=out,
                hint="check its permissions, or give another folder with -o",
            ) from error
        yield cls(out)

    @contextmanager
    def on(self, samples: Sequence[str]) -> Iterator[None]:
        """Hold samples, or raise StudyError if another run has one of them."""
        with ExitStack() as held:
            for sample in samples:
                lock = self._take(f"sub-{sample}")
                if lock is None:
                    raise StudyError(
                        f"another run is working on sample {sample} in this folder",
                        path=self._out,
                        hint="wait until it has ended, or give another folder with -o",
                    )
                held.callback(lock.release)
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold what belongs to all samples; waits for another run to be done with it, which takes seconds."""
        lock = self._take(_ALL, seconds=-1)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def taken(self, sample: str) -> bool:
        """Tell whether another run is working on a sample, which this one does not hold."""
        lock = self._take(sample if sample == _ALL else f"sub-{sample}")
        if lock is not None:
            lock.release()
        return lock is None

    def _take(self, name: str, seconds: float = 0.0) -> BaseFileLock | None:
        """Return a held lock; None if another run has it."""
        lock = FileLock(self._out / FOLDER / f"{name}.lock", mode=0o666, thread_local=False)
        if self._works:
            try:
                lock.acquire(timeout=seconds)
            except Timeout:
                return None
        return lock
