"""Cells as QuPath exports them: one row per cell, tab-separated, names and rounding of QuPath 0.6."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from histomri.core.arrays import FloatArray
from histomri.core.files import atomic_path

_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype=np.uint8).reshape(256, 2)


def write_qupath_tsv(
    path: str | Path, image: str, x_um: FloatArray, y_um: FloatArray, area_um2: FloatArray, rng: np.random.Generator
) -> Path:
    """Write cells of a slide called `image` as a QuPath measurement table; centroids and areas are (N,).

    Object ids, nuclei and stains come from the generator: they look real, and carry no truth.
    """
    table = _table(image, x_um, y_um, area_um2, rng)
    path = Path(path)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # QuPath's TSV has no quotes, and pyarrow would quote the header.
        file.write("\t".join(table.column_names).encode() + b"\n")
        options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pyarrow.csv.write_csv(table, file, options)
    return path


def _table(image: str, x_um: FloatArray, y_um: FloatArray, area_um2: FloatArray, rng: np.random.Generator) -> pa.Table:
    number = len(x_um)
    ratio = rng.beta(18.0, 42.0, number)
    size = np.sqrt(4.0 * area_um2 / np.pi)
    columns = {
        "Image": pa.repeat(image, number),
        "Object ID": _object_ids(number, rng),
        "Object type": pa.repeat("Cell", number),
        "Name": pa.nulls(number, pa.string()),
        "Classification": pa.nulls(number, pa.string()),
        "Parent": pa.repeat("Annotation (Tissue)", number),
        "ROI": pa.repeat("Polygon", number),
        "Centroid X µm": x_um,
        "Centroid Y µm": y_um,
        "Nucleus: Area": ratio * area_um2,
        "Nucleus: Circularity": np.minimum(0.999, rng.normal(0.90, 0.04, number)),
        "Nucleus: Hematoxylin OD mean": np.maximum(0.1, rng.normal(0.42, 0.07, number)),
        "Cell: Area": area_um2,
        "Cell: Circularity": np.minimum(0.999, rng.normal(0.87, 0.05, number)),
        "Cell: Eosin OD mean": np.maximum(0.02, 0.15 + 0.005 * size + rng.normal(0.0, 0.03, number)),
        "Nucleus/Cell area ratio": ratio,
    }
    return pa.table({name: _rounded(column) for name, column in columns.items()})


def _rounded(column: FloatArray | pa.Array) -> pa.Array:
    """Round as QuPath shows numbers: the larger, the fewer decimals."""
    if isinstance(column, pa.Array):
        return column
    size = np.abs(column)
    power = np.select([size > 1000, size > 10, size > 1], [10.0, 100.0, 1000.0], 10000.0)
    return pa.array(np.rint(column * power) / power)


def _object_ids(number: int, rng: np.random.Generator) -> pa.Array:
    """Make random UUIDs (version 4) without a loop: 36 characters each, back to back in one buffer."""
    raw = rng.integers(0, 256, (number, 16), dtype=np.uint8)
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    digits = _HEX[raw].reshape(number, 32)
    text = np.full((number, 36), ord("-"), dtype=np.uint8)
    for first, last, place in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        text[:, place : place + last - first] = digits[:, first:last]
    offsets = np.arange(0, 36 * number + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(number, pa.py_buffer(offsets), pa.py_buffer(text))
