"""Fixtures for every test: one seeded generator, noise of magnitude images, and the real data where it is present."""

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20251122)


@pytest.fixture
def reference() -> Path:
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip("the reference tables lie in ../shared, which is not here")
    return folder


@pytest.fixture
def real_data() -> Path:
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real files lie in ../shared, which is not here")
    return folder


@pytest.fixture
def magnitude():
    """Signals as a scanner gives them: the magnitude of complex numbers with noise of level sigma in both parts."""

    def draw(signals, sigma, rng):
        real, imaginary = rng.standard_normal(signals.shape), rng.standard_normal(signals.shape)
        return np.hypot(signals + sigma * real, sigma * imaginary)

    return draw
