"""One run at a time for each sample of a results folder: two would clear each other's files while they are written.

The system lets go of a lock when the process that holds it ends, in whatever way, so a killed run leaves none behind.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from histomri.core.errors import InputError, StudyError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_TOGETHER = ""  # stands, in place of an id, for what belongs to all samples: tables, scores, report


class Locks:
    """The locks of a results folder, one per sample and one for what belongs to all: bytes of one empty file.

    Attributes
    ----------
    warnings : tuple of str
        Where the system cannot lock files nothing is held, and this says so.
    """

    def __init__(self, file: int, out: Path) -> None:
        self._file, self._out, self._works = file, out, True
        self.warnings: tuple[str, ...] = ()
        try:
            self.taken(_TOGETHER)
        except OSError:
            self._works = False
            self.warnings = ("files cannot be locked where the results are: no other run may work there meanwhile",)

    @classmethod
    @contextmanager
    def of(cls, out: Path) -> Iterator[Self]:
        """Open the locks of a results folder, which is made if missing."""
        try:
            out.mkdir(parents=True, exist_ok=True)
            file = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            with suppress(OSError):  # of a colleague's file; in a folder for a group each must be able to lock
                (out / LOCK).chmod(0o666)
        except OSError as error:
            raise InputError(
                f"cannot hold the results ({error.strerror or error})",
                path=out,
                hint="check its permissions, or give another folder with -o",
            ) from error
        try:
            yield cls(file, out)
        finally:
            os.close(file)

    @contextmanager
    def on(self, samples: Sequence[str]) -> Iterator[None]:
        """Hold samples, or raise StudyError if another run has one of them."""
        with ExitStack() as held:
            for sample in samples:
                if not self._take(sample):
                    raise StudyError(
                        f"another run is working on sample {sample} in this folder",
                        path=self._out,
                        hint="wait until it has ended, or give another folder with -o",
                    )
                held.callback(self._let_go, sample)
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold what belongs to all samples; waits for another run to be done with it, which takes seconds."""
        self._take(_TOGETHER, wait=True)
        try:
            yield
        finally:
            self._let_go(_TOGETHER)

    def taken(self, sample: str) -> bool:
        """Tell whether another run is working on a sample, which this one does not hold."""
        if free := self._take(sample):
            self._let_go(sample)
        return not free

    def _take(self, sample: str, *, wait: bool = False) -> bool:
        if not self._works:
            return True
        if fcntl is None:
            raise OSError("no file can be locked on this system")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _place(sample))
        except (BlockingIOError, PermissionError):  # systems differ in how they say that another process has it
            return False
        return True

    def _let_go(self, sample: str) -> None:
        if self._works:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(sample))


def _place(sample: str) -> int:
    return int.from_bytes(hashlib.sha256(sample.encode()).digest()[:4], "big") // 2
