from .options import CellOptions as CellOptions
from .reader import load_cells as load_cells
from .reader import read_cells as read_cells
from .regions import read_regions as read_regions
from .table import CellMetadata as CellMetadata
from .table import CellTable as CellTable
from .table import is_cell_table as is_cell_table
from .table import refuse_table_name as refuse_table_name
