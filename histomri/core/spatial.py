"""Shapes of a slide as a `SpatialData` object, for users of scverse; the libraries are optional."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from histomri.core.errors import InputError


def to_spatialdata(shapes: Mapping[str, tuple[Any, pd.DataFrame]]) -> Any:
    """Return named shapes with their columns as a `spatialdata.SpatialData`, in µm of the slide.

    Parameters
    ----------
    shapes : mapping
        Name to (geometries of shapely, (N,); columns, N rows). Points need a column ``radius``.
    """
    try:
        from geopandas import GeoDataFrame
        from spatialdata import SpatialData
        from spatialdata.models import ShapesModel
    except ImportError as error:
        problem = f"this needs the package {error.name or 'spatialdata'}"
        raise InputError(problem, hint="pip install 'histomri[notebook]'") from error
    return SpatialData(
        shapes={
            name: ShapesModel.parse(GeoDataFrame(columns.reset_index(drop=True), geometry=geometries))
            for name, (geometries, columns) in shapes.items()
        }
    )
