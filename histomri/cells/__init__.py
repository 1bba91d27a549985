"""Cells: any QuPath export becomes one table in µm, and every row left out is counted."""

from histomri.cells.options import CellOptions
from histomri.cells.reader import read_cells
from histomri.cells.regions import read_regions
from histomri.cells.table import CellMetadata, CellTable, refuse_table_name

__all__ = ["CellMetadata", "CellOptions", "CellTable", "read_cells", "read_regions", "refuse_table_name"]
