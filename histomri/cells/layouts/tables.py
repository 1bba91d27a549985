"""Tables of other programs, by the names of their columns."""

from histomri.cells.layouts.registry import TableLayout, register

register(
    TableLayout(
        "mcmicro", "MCMICRO, openDVP",
        {"object_id": ("CellID", None), "x": ("X_centroid", "px"), "y": ("Y_centroid", "px"), "area": ("Area", "px2")},
    )
)  # fmt: skip
register(
    TableLayout(
        "xenium", "10x Xenium",
        {
            "object_id": ("cell_id", None), "x": ("x_centroid", "um"), "y": ("y_centroid", "um"),
            "cell_area": ("cell_area", "um2"), "nucleus_area": ("nucleus_area", "um2"),
        },
        cells_are="cells",
    )
)  # fmt: skip
register(
    TableLayout(
        "cdqupath", "cdQuPath",
        {
            "object_id": ("Cell.ID", None), "classification": ("Cell.classification", None),
            "x": ("Cell.X", None), "y": ("Cell.Y", None),
        },
    )
)  # fmt: skip
register(
    TableLayout(
        "cellprofiler", "CellProfiler",
        {
            "object_id": ("ObjectNumber", None), "x": ("AreaShape_Center_X", "px"), "y": ("AreaShape_Center_Y", "px"),
            "area": ("AreaShape_Area", "px2"),
        },
    )
)  # fmt: skip
register(
    TableLayout(
        "regionprops", "scikit-image",
        {
            "object_id": ("label", None), "x": ("centroid-1", "px"), "y": ("centroid-0", "px"),
            "area": ("area", "px2"),
        },
    )
)  # fmt: skip
register(TableLayout("imagej", "ImageJ", {"x": ("X", None), "y": ("Y", None), "area": ("Area", None)}, exact=True))
