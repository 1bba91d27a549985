"""Shapes of a slide as a `SpatialData` object, for users of scverse; the libraries are optional."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from histomri.core.errors import InputError


def to_spatialdata(shapes: Mapping[str, tuple[Any, pd.DataFrame]]) -> Any:
    """Return shapes as a `spatialdata.SpatialData`, in µm of the slide.

    `shapes` maps a name to geometries of shapely (N,) and N rows of columns; points need a column ``radius``.
    """
    try:
        from geopandas import GeoDataFrame
        from spatialdata import SpatialData
        from spatialdata.models import ShapesModel
    except ImportError as error:
        problem = f"this needs the package {error.name or 'spatialdata'}"
        raise InputError(problem, hint="pip install 'histomri[notebook]'") from error
    frames = {name: GeoDataFrame(rows.reset_index(drop=True), geometry=shape) for name, (shape, rows) in shapes.items()}
    return SpatialData(shapes={name: ShapesModel.parse(frame) for name, frame in frames.items()})
