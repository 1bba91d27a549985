"""Fixtures for every test, and the rule that nothing is skipped in silence.

Data: the reference tables in tests/data; real files of other people only if HISTOMRI_REAL_DATA names their folder.
Skips: with CI=true a test that is skipped for a reason that is not in allowed_skips.txt fails the run.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parent / "data"
REAL_DATA = os.environ.get("HISTOMRI_REAL_DATA", "")
ALLOWED_SKIPS = Path(__file__).resolve().parent / "allowed_skips.txt"
_SKIPPED = pytest.StashKey[dict[str, str]]()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20251122)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the reference tables; its README says where each number comes from."""
    return DATA


@pytest.fixture(scope="session")
def reference(data) -> Path:
    return data / "reference"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files that may not be copied; without it the tests that ask for it are left out."""
    folder = Path(REAL_DATA).resolve()
    assert folder.is_dir(), f"HISTOMRI_REAL_DATA is {REAL_DATA}, which is no folder"
    return folder


@pytest.fixture
def magnitude():
    """Signals as a scanner gives them: the magnitude of complex numbers with noise of level sigma in both parts."""

    def draw(signals, sigma, rng):
        real, imaginary = rng.standard_normal(signals.shape), rng.standard_normal(signals.shape)
        return np.hypot(signals + sigma * real, sigma * imaginary)

    return draw


# ---------------------------------------------------------------- real files


def pytest_report_header() -> str:
    return f"real files: {REAL_DATA or 'none (HISTOMRI_REAL_DATA names no folder), their tests are left out'}"


def pytest_collection_modifyitems(config, items) -> None:
    if REAL_DATA:
        return
    left_out = [item for item in items if "real_data" in getattr(item, "fixturenames", ())]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


# ---------------------------------------------------------------- skips


def pytest_configure(config) -> None:
    config.stash[_SKIPPED] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _remember(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _remember(collector.config, report)
    return report


def _remember(config, report) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        config.stash[_SKIPPED][report.nodeid] = reason.removeprefix("Skipped: ")


def _not_allowed(config) -> dict[str, str]:
    if os.environ.get("CI", "").lower() not in ("1", "true", "yes"):
        return {}
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    allowed = [line for line in lines if line.strip() and not line.startswith("#")]
    skipped = config.stash[_SKIPPED]
    return {name: reason for name, reason in skipped.items() if not any(re.fullmatch(each, reason) for each in allowed)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Collect what a worker process skipped (pytest-xdist)."""
    node.config.stash[_SKIPPED].update(getattr(node, "workeroutput", {}).get("skipped", {}))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = dict(session.config.stash[_SKIPPED])
    elif session.exitstatus == pytest.ExitCode.OK and _not_allowed(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter) -> None:
    refused = _not_allowed(terminalreporter.config)
    if refused:
        terminalreporter.section("skipped, and not in tests/allowed_skips.txt", red=True)
        for name, reason in sorted(refused.items()):
            terminalreporter.line(f"{name}: {reason}")
