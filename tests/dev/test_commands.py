"""One test command for every system: make, the workflow and Windows call the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_make_and_the_workflow_call_the_same_command():
    words = re.search(r"^test:.*\n\t\$\(BIN\)/(python .*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert words == "python -m histomri_dev test"
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    runs = [step.get("run") for step in flow["jobs"]["test"]["steps"]]
    assert words in runs
    matrix = flow["jobs"]["test"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "windows", "macos"}
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert lowest in matrix["python"]


def test_the_commands_name_themselves():
    done = subprocess.run([sys.executable, "-m", "histomri_dev"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "histomri_dev test" in done.stdout and "histomri_dev fuzz" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "histomri_dev", "fuzz", "--kind", "protocol in rows", "--count", "6"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^protocol in rows +6 read, +\d refused, +0 faults\n6 files, 0 faults$", done.stdout, re.M)


@pytest.mark.parametrize("page", ["cp1252", "cp932", "ascii"])
def test_help_can_be_redirected_in_the_code_pages_of_windows(page):
    """As Windows does below Python 3.15: redirected text is in the code page, which lacks some of its signs."""
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": page}
    program = Path(sys.executable).with_name("histomri")
    done = subprocess.run([program, "fit", "--help"], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode(page)
    assert "--protocol" in done.stdout.decode(page)
