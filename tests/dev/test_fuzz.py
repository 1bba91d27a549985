"""A short run of the fuzzer, always the same one; and that it finds what it is made for."""

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # histomri_dev is not installed

from histomri.core.errors import InputError  # noqa: E402
from histomri_dev.fuzz.kinds import KINDS, Kind  # noqa: E402
from histomri_dev.fuzz.run import run_kind  # noqa: E402

EACH = 8


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files_of_every_kind_are_refused_in_words_or_read(kind, tmp_path):
    faults = [one for one in run_kind(kind, 20, range(EACH), tmp_path) if one.fault]
    assert not faults


def read_first(path):
    return path.read_bytes()[:40]


def raise_value_error(path):
    if path.read_bytes() != b"x" * 40:
        raise ValueError("cannot")


def say_no(path):
    if path.read_bytes() != b"x" * 40:
        raise InputError("cannot be read")


def say_where(path):
    if path.read_bytes() != b"x" * 40:
        raise InputError("cannot be read", path=path)


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (read_first, "changed values are read as good data"),
        (raise_value_error, "ValueError: cannot"),
        (say_no, "a message without the file"),
        (say_where, ""),
    ],
)
def test_the_fuzzer_finds_faults(tmp_path, read, fault):
    kind = Kind("made up", lambda: {"a.nii": b"x" * 40}, read, checksum=True)
    found = {one.fault.split(" (")[0] for one in run_kind(kind, 1, range(12), tmp_path)}
    assert found - {""} == ({fault} - {""})
