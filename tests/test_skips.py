"""Where CI=true, a test that is skipped without leave fails the run; nothing outside the repository is needed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SKIPPING = """
import pytest

def test_runs():
    pass

{code}
"""
BY_FIXTURE = "@pytest.fixture\ndef program():\n    pytest.skip('{reason}')\n\ndef test_needs_it(program):\n    pass\n"
BY_MARK = "@pytest.mark.skipif(True, reason='{reason}')\ndef test_marked():\n    pass\n"
BY_IMPORT = "pytest.importorskip('no_such_library', reason='{reason}')\n"
REASON = "needs a program, which is not installed"


def run_pytest(
    folder: Path, code: str, *, ci: str, allowed: str = "", more: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "allowed_skips.txt").write_text(f"# a comment\n\n{allowed}\n")
    (folder / "test_it.py").write_text(SKIPPING.format(code=code.format(reason=REASON)))
    environment = {**os.environ, "CI": ci, "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder]
    return subprocess.run(
        [*command, *more, folder], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("code", [BY_FIXTURE, BY_MARK, BY_IMPORT])
def test_a_skip_without_leave_fails_the_run(tmp_path, code, more):
    done = run_pytest(tmp_path, code, ci="true", more=more)
    assert done.returncode != 0
    assert "test_it.py" in done.stdout and REASON in done.stdout.split("allowed_skips.txt")[1]


@pytest.mark.parametrize(
    ("ci", "allowed"), [("", ""), ("true", r"needs a \w+, which is not installed")], ids=["at home", "allowed"]
)
def test_elsewhere_or_with_leave_it_does_not(tmp_path, ci, allowed):
    assert run_pytest(tmp_path, BY_FIXTURE, ci=ci, allowed=allowed).returncode == 0


def test_part_of_a_reason_is_no_leave(tmp_path):
    assert run_pytest(tmp_path, BY_MARK, ci="true", allowed="needs a program").returncode != 0


def test_continuous_integration_forbids_skips():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines.index("export CI=true") < lines.index("make test")
    # A program that cannot be installed ends the run.
    assert "set -euo pipefail" in lines
    assert not [line for line in lines if re.search(r"apt-get (update|install).*(\|\||;)", line)]


def test_nothing_outside_the_repository_is_read():
    """A fresh clone is enough: no test names a folder beside or above the checkout."""
    above = re.compile(r"""/ ["']shared["']|shared/""")
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path != Path(__file__).resolve():
            assert not above.search(text), path
        depth = len(path.relative_to(ROOT).parts)
        for found in re.findall(r"__file__\)(?:\.resolve\(\))?\.parents\[(\d+)\]", text):
            assert int(found) < depth, f"{path} looks above the repository"
