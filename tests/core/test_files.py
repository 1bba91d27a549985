"""Atomic files and strict JSON."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.files import (
    atomic_path,
    read_json,
    refuse_overwrite,
    require_file,
    require_folder,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = write_text(tmp_path / "table.csv", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_temporary_name_keeps_the_suffix_that_writers_go_by(tmp_path):
    with atomic_path(tmp_path / "map.nii.gz") as temporary:
        assert temporary.name.endswith("map.nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"1")


def test_written_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    written = write_text(tmp_path / "written", "x")
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_is_strict(tmp_path):
    content = {"a": np.float32(1.5), "b": [math.nan, np.inf], "c": np.arange(3), "d": Path("x/y"), 5: np.bool_(True)}
    path = write_json(tmp_path / "x.json", content)
    text = path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text) == {"a": 1.5, "b": [None, None], "c": [0, 1, 2], "d": "x/y", "5": True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{\n  1}", r"not valid JSON \(line 2, column 3"),
        (b"\xff\xfe\x00", "not a UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_bad_json_says_what_is_wrong_and_where(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_json(path)
    assert "bad.json" in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such study file"):
        require_file(tmp_path / "none.toml", "study file")
    with pytest.raises(InputError, match="is a folder"):
        require_file(tmp_path)


def test_an_input_is_never_overwritten(tmp_path):
    table = write_text(tmp_path / "cells.tsv", "x")
    (tmp_path / "link.tsv").symlink_to(table)
    refuse_overwrite(tmp_path / "new.parquet", [table, None])
    for out in (table, tmp_path / "link.tsv", tmp_path / "." / "cells.tsv"):
        with pytest.raises(InputError, match="is an input"):
            refuse_overwrite(out, [table])


def test_what_cannot_be_written_is_told(tmp_path):
    file = write_text(tmp_path / "file", "x")
    with pytest.raises(InputError, match="is a file, and a folder is needed"):
        write_text(file / "below.txt", "x")
    with pytest.raises(InputError, match="is a file, and a folder is needed"):
        require_folder(file / "deeper" / "still")
    assert require_folder(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    with (
        pytest.raises(InputError, match=r"big\.txt: cannot be written \(No space left"),
        atomic_path(tmp_path / "big.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
