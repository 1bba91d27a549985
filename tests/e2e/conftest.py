"""One demo, run once by the command line in-process, for every test that looks at its results."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from histomri_cli.app import app


@dataclass(frozen=True)
class DemoRun:
    out: Path
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> DemoRun:
    out = tmp_path_factory.mktemp("demo") / "study"
    result = CliRunner().invoke(app, ["demo", str(out), "--physics", "simple"])
    return DemoRun(out, result.exit_code, result.stdout, result.stderr)
