"""One more filter of cells is a field of the options and an entry in a table; everything else follows from these."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from histomri.cells import CellOptions, CellTable, filters, options, reader
from histomri.core.options import Fraction, option
from histomri.study.graph import COMMANDS
from histomri_cli.build import make_command
from histomri_cli.common import HistomriGroup


class WithSolidity(CellOptions):
    """Read cells."""

    min_solidity: Fraction | None = option(None, "Drop cells of a smaller solidity.")


def drop_hollow(export, measures, rows, least):
    rows.drop(f"of a solidity below {least:g}", measures.others["cell_solidity"] < np.float32(least))


@pytest.fixture
def with_solidity(monkeypatch):
    monkeypatch.setattr(options, "CellOptions", WithSolidity)
    monkeypatch.setattr(reader, "CellOptions", WithSolidity)
    monkeypatch.setattr("histomri.study.steps.cells.CellOptions", WithSolidity)
    added = filters.CellFilter("min_solidity", drop_hollow, reads=("cell_solidity",))
    monkeypatch.setattr(filters, "FILTERS", [*filters.FILTERS, added])


def test_a_new_filter_needs_a_field_and_an_entry(with_solidity, tmp_path):
    path = tmp_path / "a.tsv"
    head = "Centroid X µm\tCentroid Y µm\tCell: Area µm^2\tCell: Solidity\tCell: Circularity\n"
    path.write_text(head + "1\t2\t90\t0.95\t0.5\n3\t4\t90\t0.5\t0.5\n5\t6\t20\t0.4\t0.5\n")
    app = typer.Typer(cls=HistomriGroup)
    app.command("cells")(make_command(COMMANDS[0]))
    app.command("other")(lambda: None)
    words = [
        "cells",
        path,
        "-o",
        tmp_path / "c.parquet",
        "--min-solidity",
        0.8,
        "--min-size-um",
        8,
        "--no-measurements",
    ]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "dropped: 1 of a solidity below 0.8" in done.stdout
    table = CellTable.load(tmp_path / "c.parquet")
    assert table.metadata.dropped == {"smaller than 8 µm": 1, "of a solidity below 0.8": 1}
    assert table.data["x_um"].tolist() == [1]
    # The measurement that the filter needs is read in any case, no other one is.
    assert "cell_solidity" in table.data and "cell_circularity" not in table.data
    refused = CliRunner().invoke(app, ["cells", str(path), "-o", str(tmp_path / "d.parquet"), "--min-solidity", "2"])
    assert refused.exit_code == 2 and "--min-solidity: must be at most 1" in refused.stderr


def test_every_filter_has_its_option():
    assert {each.option for each in filters.FILTERS} <= set(CellOptions.model_fields)
