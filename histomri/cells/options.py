"""The options of `histomri cells`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from histomri.cells.layouts import LAYOUT_NAMES
from histomri.cells.sidecar import annotations_of, companions_of
from histomri.core.options import Choices, Flag, Fraction, Options, Pair, Positive, Text, argument, given, option

Exports = Annotated[
    tuple[Path, ...],
    BeforeValidator(lambda paths: paths if isinstance(paths, list | tuple) else [paths]),
    Field(min_length=1),
]


class CellOptions(Options):
    """Read cells from QuPath measurement tables, any version, and write them as one table in µm.

    Delimiter, encoding, decimal sign and units are recognised from the file; every row left out is counted.

    Example: histomri cells slide1.tsv -o slide1/cells.parquet --roi tissue.geojson --mpp 0.2268
    """

    exports: Exports = argument(
        "QuPath tables or GeoJSON of one slide, a mask of numbered cells (TIFF, PNG, NPY), or project.qpproj.",
        metavar="EXPORT..",
    )
    roi: Path | None = given(None, "GeoJSON polygons (pixels), or project.qpproj: keep the cells inside.")
    mpp: Pair | None = option(None, "Pixel size of the slide, or of the mask.", unit="µm")
    area_unit: Literal["um2", "px2"] | None = option(None, "Unit of area columns whose name states none.")
    classes: tuple[str, ...] | None = option(None, "Keep these classifications only.", metavar="A,B", commas=True)
    min_size_um: Positive | None = option(None, "Drop cells of a smaller diameter.", unit="µm")
    max_size_um: Positive | None = option(None, "Drop cells of a larger diameter, such as 35.", unit="µm")
    min_probability: Fraction | None = option(
        None, "Drop cells of a smaller detection probability (StarDist), such as 0.5."
    )
    image: str | None = option(None, "Which slide to take from a file that holds several.")
    project: Path | None = option(None, "QuPath project file: pixel size, slide size and number of cells.")
    detections: Literal["nuclei", "cells"] | None = option(
        None, "Meaning of objects with one outline only (StarDist, masks); nuclei, unless the file calls them cells."
    )
    roi_classes: tuple[str, ...] | None = option(
        None, "Regions: those of these classes only, such as Tumor,Stroma.", metavar="A,B", commas=True
    )
    exclude_classes: tuple[str, ...] | None = option(
        None, "Regions: cut those of these classes out of the others, such as Necrosis.", metavar="A,B", commas=True
    )
    core: Text | None = given(None, "Regions: those of this TMA core only, such as A-1.")
    per_image: Flag = given(False, "Write one table for each image of a file; --out then names a folder.")
    geometries: Flag = option(False, "Keep the outlines of GeoJSON, for `histomri patches --assign clip`.")
    check: Path | None = given(
        None, "The slide: write 48 random cells with their outlines on it as a picture, to approve them by eye."
    )
    measurements: Flag = option(
        True, "Keep stains, shapes and other measurements.", flag="--measurements/--no-measurements"
    )
    areas: Literal["measured", "outlines"] | None = option(
        None, "Which areas to take where those measured in GeoJSON and those of its outlines disagree."
    )
    doubles: Literal["keep", "drop", "error"] = option(
        "keep", "Cells inside others (second runs, tile seams): keep and warn, keep the larger or first, or stop."
    )
    layout: Annotated[str, Choices(LAYOUT_NAMES)] | None = option(
        None, "Layout of a file of another program, where it is not recognised."
    )
    columns: Path | None = option(None, "TOML file that names the columns of a table: x = ..., y = ..., area = ...")
    position_unit: Literal["um", "px"] | None = option(None, "Unit of positions whose column states none.")
    nuclei_mask: Path | None = given(None, "Mask of the nuclei of a mask of cells; they are paired by their overlap.")
    label_classes: Path | None = given(None, "Table (label, class): classification of each number of a mask.")
    split_labels: Flag = option(False, "Split numbers of a mask that are in several places into their parts.")

    def reads(self) -> Iterator[Path]:
        """Yield the files that are read, with the JSON beside an export and the data of a QuPath project."""
        yield from super().reads()
        for path in (*self.exports, *([self.project] if self.project is not None else [])):
            yield from companions_of(path)
        if (own := self.regions_file) is not None and own != self.roi and own.exists():
            yield own

    @property
    def regions_file(self) -> Path | None:
        """The file of regions: the one given or, if classes or a core are asked for, the one beside the cells."""
        if self.roi is not None or not (self.roi_classes or self.exclude_classes or self.core):
            return self.roi
        first = self.exports[0]
        beside = annotations_of(first)
        holds_them = first.suffix.lower() == ".qpproj" or (".geojson" in first.name.lower() and not beside.exists())
        return first if holds_them else beside

    @model_validator(mode="after")
    def _can_keep_something(self) -> "CellOptions":
        if None not in (self.min_size_um, self.max_size_um) and not self.min_size_um < self.max_size_um:  # type: ignore[operator]
            raise ValueError("{min_size_um} and {max_size_um} keep nothing: the smallest size is not below the largest")
        if self.per_image and (self.image is not None or self.regions_file is not None):
            raise ValueError("{per_image} takes all images of a file; leave out {image}, {roi} and classes of regions")
        if self.per_image and len(self.exports) > 1:
            raise ValueError("{per_image} takes one file that holds several images")
        return self
