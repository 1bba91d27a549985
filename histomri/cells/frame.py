"""The rows of an export that are cells, as the table that everything else works on."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from histomri.cells.filters import object_types
from histomri.cells.parsed_export import ParsedExport
from histomri.cells.units import Measures
from histomri.core.arrays import BoolArray


def make_frame(export: ParsedExport, measures: Measures, keep: BoolArray, image: str | None) -> pd.DataFrame:
    """Return the rows to keep as the table of cells; `image` is the slide's name where the export has none."""
    everything = bool(keep.all())
    mask = pa.array(keep) if not everything else None

    def rows(values: Any) -> Any:
        return values if everything else values[keep]

    def text(name: str) -> Any:
        column = export.text[name]
        if mask is not None:
            column = column.filter(mask)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.to_pandas()

    n = int(np.count_nonzero(keep))
    area = rows(measures.area_um2)
    types = object_types(export)
    columns: dict[str, Any] = {
        "image": text("image") if "image" in export.text else _constant(image or export.path.name.split(".")[0], n),
        "object_id": text("object_id") if "object_id" in export.text else pd.array([""] * n, dtype="str"),
        "object_type": _constant("cell" if measures.compartment == "cell" else "detection", n)
        if types is None
        else pd.Categorical(_lookup(types[0], rows(types[1]), measures)),
        "classification": text("classification") if "classification" in export.text else _constant("", n),
        "x_um": rows(measures.x_um),
        "y_um": rows(measures.y_um),
        "area_um2": area,
        "nucleus_area_um2": rows(measures.nucleus_area_um2),
        "diameter_um": np.sqrt(area * (4 / np.pi)),
    }
    if "parent" in export.text:
        columns["parent"] = text("parent")
    columns.update({name: rows(values) for name, values in measures.others.items()})
    return pd.DataFrame(columns, copy=False)


def _lookup(names: list[str], codes: Any, measures: Measures) -> pd.Categorical:
    """Return one category per row; a legacy row without a type has the one that the columns imply."""
    default = "cell" if measures.compartment == "cell" else "detection"
    kinds = [name or default for name in names]
    distinct = sorted(set(kinds))
    recode = np.array([distinct.index(kind) for kind in kinds], dtype=np.int32)
    return pd.Categorical.from_codes(recode[codes], categories=distinct)


def _constant(value: str, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), categories=[value])
