"""The command line as users type it, in this process."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri_cli.app import app


@pytest.fixture
def run():
    """Run a command: what goes wrong may end it with a message, never with a traceback."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def histomri():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def some_pairs(rng, n=24):
    size, fraction = rng.uniform(14, 28, n), rng.uniform(0.4, 0.8, n)
    parts = []
    for model, noise in (("diff-in", 1.0), ("diff-in-ex", 3.0)):
        parts.append(
            pd.DataFrame(
                {
                    "sample": [f"{case:02d}" for case in range(n)],
                    "group": np.where(np.arange(n) % 3 == 0, "crc", "melanoma"),
                    "scanner": np.where(np.arange(n) % 2 == 0, "1.5T", "3T"),
                    "model": model,
                    "strategy": "high-b",
                    "vCS_mri_um": size + noise * rng.normal(size=n),
                    "vCS_histo_um": size,
                    "F_mri": fraction + 0.05 * noise * rng.normal(size=n),
                    "F_histo": fraction,
                    "D0I_mri_um2_ms": rng.uniform(0.9, 2.8, n),
                    "volume_mm3": 10 ** rng.uniform(3, 6, n),
                    "patient": [f"p{case // 2}" for case in range(n)],
                    "Ki67": rng.uniform(0, 0.2, n),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def table(rng):
    return some_pairs(rng)


@pytest.fixture
def pairs(table, tmp_path):
    path = tmp_path / "pairs.csv"
    table.to_csv(path, index=False)
    return path
