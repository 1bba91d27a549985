"""Read mutated files of every kind, and count faults: what is no message of histomri, too long, too large, or silent.

Every kind runs in a process of its own, so that one that hangs or crashes is counted and the rest goes on.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.errors import HistomriError
from histomri_dev.fuzz.kinds import KINDS, Kind, mutations_of
from histomri_dev.fuzz.mutations import flip_bit

LONGEST_S = 20.0
MOST_BYTES = 1 << 30
_PEAK, _NOW = "VmHWM:", "VmRSS:"


@dataclass(frozen=True)
class Outcome:
    """What came of reading one mutated file."""

    kind: str
    number: int
    mutation: str
    file: str
    fault: str = ""  # empty if it was refused in words, or read as it should be
    refused: bool = False


def digest(value: Any) -> str:
    """Return a hash of what a reader gave: arrays, tables, text, and lists of them."""
    found = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, list | tuple):
            for each in item:
                add(each)
        elif isinstance(item, pd.DataFrame):
            found.update(item.to_csv().encode())
        elif isinstance(item, np.ndarray):
            found.update(repr((item.shape, item.dtype)).encode() + np.ascontiguousarray(item).tobytes())
        else:
            found.update(item if isinstance(item, bytes) else str(item).encode())

    add(value)
    return found.hexdigest()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of a seed into an empty folder; return the path of the first."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def _memory(what: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(what))
    except OSError:  # not Linux: memory is not watched
        return 0


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or not allowed: the peak is that of the whole process
        return


def changed(kind: Kind, files: dict[str, bytes], number: int, seed: int) -> tuple[dict[str, bytes], str, str, bool]:
    """Return the files with one change, which file was changed, how, and whether its checksum is right all the same."""
    rng = random.Random(f"{seed} {kind.name} {number}")
    name = rng.choice([each for each in files if each not in kind.kept])
    mutation, consistent = rng.choice(mutations_of(name))
    label = mutation.__qualname__.replace(".<locals>.mutate", "")
    return {**files, name: mutation(files[name], rng) or b"\n"}, name, label, consistent


def check(kind: Kind, first: Path, seed_digest: str, *, consistent: bool) -> tuple[str, bool]:
    """Read one file; return the fault, empty if there is none, and whether it was refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = kind.read(first)
    except HistomriError as error:
        return "" if str(first.parent) in str(error) else f"a message without the file ({error})"[:160], True
    except Exception as error:  # noqa: BLE001  whatever else comes is the fault that is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__}: {str(error)[:120]} ({place})", False
    if kind.checksum and not consistent and digest(value) != seed_digest:
        return "changed values are read as good data", False
    return "", False


def run_kind(kind: Kind, seed: int, numbers: range, folder: Path, flips: int = 0) -> Iterator[Outcome]:
    """Yield the outcome of mutations of a kind, or of so many single flipped bits of its first file."""
    files = kind.make()
    place = folder / "read"
    first = write_files(place, files)
    before, _ = _memory(_NOW), _forget_peak()
    seed_digest = digest(kind.read(first))
    allowed = max(_memory(_PEAK) - before, 0) + MOST_BYTES
    for number in numbers:
        if flips:
            name = next(iter(files))
            changes = {**files, name: flip_bit(files[name], random.Random(f"{seed} {kind.name} {number}"))}
            label, consistent = "one bit", False
        else:
            changes, name, label, consistent = changed(kind, files, number, seed)
        print(json.dumps({"starts": number, "mutation": label, "file": name}), file=sys.stderr, flush=True)
        first = write_files(place, changes)
        before, _, start = _memory(_NOW), _forget_peak(), time.monotonic()
        fault, refused = check(kind, first, seed_digest, consistent=consistent)
        if not fault and (seconds := time.monotonic() - start) > LONGEST_S:
            fault = f"took {seconds:.0f} s"
        if not fault and (taken := _memory(_PEAK) - before) > allowed:
            fault = f"took {taken / 2**30:.1f} GiB"
        yield Outcome(kind.name, number, label, name, fault, refused)


def _in_process(kind: str, seed: int, count: int, folder: Path, flips: int) -> list[Outcome]:
    """Run a kind in another process; where it hangs or crashes, that is the fault, and a new one goes on after it."""
    outcomes: list[Outcome] = []
    at = 0
    while at < count:
        command = [sys.executable, "-m", "histomri_dev.fuzz.run", "--worker", kind, "--seed", str(seed)]
        command += ["--from", str(at), "--count", str(count), "--folder", str(folder), "--flips", str(flips)]
        log = folder / "log"
        with log.open("w") as errors, (folder / "out").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=errors)
            last, since, hung = "", time.monotonic(), False
            while process.poll() is None:
                time.sleep(0.1)
                lines = log.read_text(errors="replace")[-300:]
                if lines != last:
                    last, since = lines, time.monotonic()
                elif time.monotonic() - since > 3 * LONGEST_S:
                    hung = True
                    process.kill()
        found = [Outcome(**json.loads(line)) for line in (folder / "out").read_text().splitlines() if line[:1] == "{"]
        outcomes += found
        at = found[-1].number + 1 if found else at
        if process.returncode and at < count:
            starts = [line for line in log.read_text(errors="replace").splitlines() if line.startswith('{"starts"')]
            what = json.loads(starts[-1]) if starts else {"mutation": "none: the seed", "file": kind}
            tail = log.read_text(errors="replace").strip().splitlines()[-1][:200]
            fault = "hangs" if hung else f"ends with {process.returncode} ({tail})"
            outcomes.append(Outcome(kind, at, what["mutation"], what["file"], fault))
            if not starts:
                break
            at += 1
    return outcomes


def main(arguments: list[str]) -> int:
    """Run the fuzzer; the exit code is 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m histomri_dev fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=320, help="mutations of each kind (320)")
    parser.add_argument(
        "--flips", type=int, default=0, help="flip single bits instead, so many of each kind with a checksum"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--kind", action="append", help="only this kind; may be repeated")
    parser.add_argument("--keep", type=Path, help="write the files that are faults into this folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    kinds = {kind.name: kind for kind in KINDS}
    if unknown := [name for name in given.kind or () if name not in kinds]:
        parser.error(f"unknown kind {unknown[0]!r}; they are {', '.join(kinds)}")
    if given.worker:
        for outcome in run_kind(
            kinds[given.worker], given.seed, range(given.start, given.count), given.folder, given.flips
        ):
            print(json.dumps(asdict(outcome)), flush=True)
        return 0
    faults: list[Outcome] = []
    read = 0
    for kind in KINDS:
        if (given.kind and kind.name not in given.kind) or (given.flips and not kind.checksum):
            continue
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            found = _in_process(kind.name, given.seed, given.flips or given.count, Path(folder), given.flips)
        wrong = [one for one in found if one.fault]
        read, faults = read + len(found), faults + wrong
        refused = sum(one.refused for one in found)
        print(f"{kind.name:28} {len(found):5} read, {refused:5} refused, {len(wrong):3} faults", flush=True)
        for one in wrong[:8]:
            print(f"    {one.number}: {one.mutation} of {one.file}: {one.fault}", flush=True)
        if given.keep:
            _keep(kind, wrong, given)
    print(f"{read} files, {len(faults)} faults")
    return 1 if faults else 0


def _keep(kind: Kind, faults: list[Outcome], given: argparse.Namespace) -> None:
    files = kind.make()
    for one in faults:
        changes, *_ = changed(kind, files, one.number, given.seed)
        write_files(given.keep / f"{kind.name} {one.number}".replace(" ", "_"), changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
