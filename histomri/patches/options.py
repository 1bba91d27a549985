"""The options of `histomri patches` and `histomri ki67`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from histomri.cells.sidecar import companions_of
from histomri.core import options as core
from histomri.core.calibration import slide_record_path
from histomri.core.errors import InputError
from histomri.core.options import (
    Flag,
    Number,
    Options,
    Pair,
    Positive,
    SampleLabel,
    Text,
    Whole,
    argument,
    given,
    option,
)
from histomri.core.presets import CorrectionName, SectionName
from histomri.slides.options import EDGES_UM, EMPTY_OD, ROUNDNESS

USUAL_SECTION_UM = 4.0
RECOMMENDED_CELLS = 500
ESTIMATE = "estimate"
OutlineKind = Literal["auto", "N", "R", "M", "E"]


def _present(*paths: Path | None) -> Iterator[Path]:
    yield from (path for path in paths if path is not None and path.exists())


class PatchOptions(Options):
    """Make maps of cell size (vCS), area fraction (F), density (CD) and more from a cell table.

    Corrected maps, the same uncorrected (desc-uncorrected), and standard errors (stat-se) are written as NIfTI.

    Example: histomri patches cells.parquet -o histo --like dwi.nii.gz --preset mouse-exvivo
    """

    cells: Path = argument("Table of `histomri cells`, or a QuPath table.", metavar="CELLS")
    patch_um: Pair | None = option(None, "Size of a patch.", unit="µm")
    like: Path | None = given(None, "Take the size of a patch from the voxels of this MRI.")
    thickness_um: Positive | None = option(None, "Slice thickness to state in the maps.", unit="µm")
    preset: CorrectionName | None = option(
        None, "Corrections: mouse-exvivo (shrinkage 12.9 %; the default), human-biopsy (15.3 %), none."
    )
    section: SectionName | None = option(None, "Section correction, in place of the preset's.")
    section_thickness_um: Annotated[Number, Field(ge=0)] | None = option(
        None, "Thickness of the section as cut: needed with --outline-kind; wicksell takes 4 if left out.", unit="µm"
    )
    shrinkage: core.Shrinkage | None = option(
        None, "Shrinkage, in place of the preset's: fraction of length lost, such as 0.129."
    )
    outline_kind: OutlineKind | None = option(
        None, "Maps in 3D too; outlines are N nuclei, R nucleus and rim, M cells where nuclei are seen, E every cell."
    )
    nucleus_limit_um2: Positive | None = option(
        None, "In 3D: smallest nucleus (kind E: cell) that the detection keeps; QuPath's default is 10.", unit="µm²"
    )
    cell_fraction: core.Fraction | None = option(
        None, "In 3D: share of the tissue's volume that is cells; with N and R it gives the volume per cell."
    )
    binucleate_share: core.Fraction | None = option(
        None, "In 3D: share of the cells that have two nuclei; cells are then counted, not nuclei."
    )
    size: core.SizeName | None = option(
        None, "What is compared with MRI: volume (cells in 3D; the default where it is known), paper (as published)."
    )
    section_thickness_error_um: Annotated[Number, Field(ge=0)] = option(
        0.8, "In 3D: how far off the thickness may be.", unit="µm"
    )
    shrinkage_error: core.Fraction = option(0.04, "In 3D: how far off the shrinkage may be.")
    nucleus_limit_error: core.Fraction = option(0.25, "In 3D: how far off the smallest nucleus may be, relative.")
    cell_fraction_error: core.Fraction = option(0.1, "In 3D: how far off the cell fraction may be.")
    centroid_noise_um: Annotated[Number, Field(ge=0)] = option(
        0.0, "In 3D, kind M: how far apart noise alone puts the centroids of nucleus and cell (rms).", unit="µm"
    )
    min_cells: Annotated[Whole, Field(ge=1)] = option(1, "Fewer cells in a patch give no sizes.")
    min_tissue: core.Fraction = option(0.25, "Patches with a smaller fraction inside the tissue are left out.")
    tissue: Literal["cells", "field"] | None = option(
        None, "Without a region of interest, F and CD are per: cells (the area cells cover; the default), field (all)."
    )
    slide: Path | None = given(None, "The slide the cells were found on: F and CD are per area of tissue on it.")
    exclude_fat: Flag = option(
        False, "With the slide: leave fat vacuoles (round holes of 5 to 40 µm) out of the tissue that F and CD are per."
    )
    whole: Flag = option(False, "One patch, and rois.csv if regions are several.")
    per: Literal["region", "class", "core"] | None = option(
        None, "Write rois.csv with a row for each: region, class (of regions), core (of a TMA)."
    )
    by_class: Flag = option(False, "Maps of F and CD for each class of cells too, per the same area.")
    assign: Literal["centroid", "clip"] = option(
        "centroid", "How cells count: centroid (where it lies), clip (shared by area; needs `cells --geometries`)."
    )
    step_um: Pair | None = option(None, "Distance of patches, less than their size if they overlap.", unit="µm")
    like_mri: Flag = option(True, "Whether patches have the size of the MRI's voxels.", hidden=True)
    sub: SampleLabel | None = given(None, "Label of the sample, for the names of the files.")

    @model_validator(mode="before")
    @classmethod
    def _drop_unused_mri(cls, values: Any) -> Any:
        """Leave out the MRI of a study where it sets no size: it then does not enter the key of the step."""
        if isinstance(values, dict) and (values.get("like_mri") is False or values.get("whole") is True):
            return {name: value for name, value in values.items() if name != "like"}
        return values

    @model_validator(mode="after")
    def _has_one_size(self) -> "PatchOptions":
        if sum((self.patch_um is not None, self.like is not None, self.whole)) != 1:
            choices = "pass one of {patch_um}, {like} and {whole} (in a study, like_mri = false leaves out the MRI)"
            raise ValueError(f"the size of the patches is not settled; {choices}")
        if self.whole and self.step_um is not None:
            raise ValueError("one patch for the whole slide cannot overlap others; leave out {whole} or {step_um}")
        if self.assign == "clip" and self.step_um is not None:
            raise ValueError("overlapping patches cannot share cells by area; leave out {assign} or {step_um}")
        if self.exclude_fat and self.slide is None:
            raise ValueError("fat is found on the slide; give {slide}, or leave out {exclude_fat}")
        if self.slide is not None and self.tissue == "cells":
            raise ValueError("the tissue is that of the slide or of the cells; leave out {tissue} or {slide}")
        self._is_whole_in_3d()
        return self

    def _is_whole_in_3d(self) -> None:
        """Refuse maps in 3D without what they need, and facts that nothing uses."""
        if self.outline_kind is not None and self.section_thickness_um is None:
            raise ValueError("maps in 3D need the thickness of the section as cut; pass {section_thickness_um}")
        if self.outline_kind is not None and self.step_um is not None:
            raise ValueError("overlapping patches have no maps in 3D; leave out {step_um} or {outline_kind}")
        facts = (self.nucleus_limit_um2, self.cell_fraction, self.binucleate_share)
        if self.outline_kind is None and any(fact is not None for fact in facts):
            raise ValueError("facts for maps in 3D need the kind of outline; pass {outline_kind}")
        if self.outline_kind is None and self.size == "volume":
            raise ValueError("sizes in 3D need the kind of outline; pass {outline_kind}, or leave out {size}")
        if self.outline_kind == "E" and self.binucleate_share is not None:
            raise ValueError("outlines of every cell count cells, not nuclei; leave out {binucleate_share}")
        if self.cell_fraction == 0:
            raise ValueError("tissue without cells has no volume per cell; give {cell_fraction} above 0")

    @property
    def settled_size(self) -> core.SizeName | None:
        """Which numbers are compared with MRI, as far as options alone settle it."""
        if self.size is not None or self.outline_kind is None:
            return self.size or "paper"
        if self.cell_fraction is not None or self.outline_kind in ("M", "E"):
            return "volume"
        return None if self.outline_kind == "auto" else "paper"

    def reads(self) -> Iterator[Path]:
        """Yield the files that are read, with the JSON files beside an export and beside a slide."""
        yield from super().reads()
        if self.cells.suffix.lower() != ".parquet":
            yield from companions_of(self.cells)
        if self.slide is not None:
            yield from _present(slide_record_path(self.slide))


class FatOptions(Options):
    """Count fat vacuoles in tissue (steatosis): round, empty holes by size class, and their fraction of the tissue.

    Vessels and tears are too large or not round; they are reported apart. fat.png shows what was counted.

    Example: histomri fat liver1.ndpi -o fat/ --map-um 400
    """

    slide: Path = argument("Slide (svs, ndpi, OME-TIFF, TIFF).", metavar="SLIDE")
    roi: Path | None = given(None, "GeoJSON polygons (pixels) to look in.")
    mpp: Pair | None = option(None, "Pixel size of the slide.", unit="µm")
    edges_um: tuple[Positive, ...] = option(
        EDGES_UM, "Diameters at which size classes begin and end.", unit="µm", metavar="D,D,..", commas=True
    )
    empty_od: Positive = option(EMPTY_OD, "Mean optical density below which a pixel is empty.")
    roundness: core.Fraction = option(ROUNDNESS, "Least roundness of a vacuole; 1 for a disc, 0.8 for 2 to 1.")
    map_um: Positive | None = option(None, "Write a map too, of patches of this size.", unit="µm")
    sub: SampleLabel | None = given(None, "Label of the sample, for the names of the files.")

    def reads(self) -> Iterator[Path]:
        """Yield the files that are read, with the JSON file beside the slide."""
        yield from super().reads()
        yield from _present(slide_record_path(self.slide))


class Ki67Options(Options):
    """Measure Ki-67: the labelling index from classified cells, or the stained area fraction from a slide.

    The two are different quantities and are never mixed. ki67.png shows the counted cells or pixels. With --slide,
    cells need no classes: DAB is measured in each outline or mask of a cell.

    Example: histomri ki67 slide_ki67.ndpi -o ki67/ --roi tumour.geojson
    """

    source: Path = argument(
        "Slide (svs, ndpi, OME-TIFF, TIFF), or classified cells (QuPath export, cells.parquet).",
        metavar="SLIDE_OR_CELLS",
    )
    slide: Path | None = given(
        None, "For cells with outlines (GeoJSON, cells.parquet, mask): the slide on which DAB is measured in each."
    )
    roi: Path | None = given(None, "GeoJSON polygons (pixels) to count in.")
    roi_classes: tuple[str, ...] | None = option(
        None, "Regions: those of these classes only, such as Tumor.", metavar="A,B", commas=True
    )
    exclude_classes: tuple[str, ...] | None = option(
        None, "Regions: cut those of these classes out of the others, such as Necrosis.", metavar="A,B", commas=True
    )
    core: Text | None = given(None, "Regions: those of this TMA core only, such as A-1.")
    mpp: Pair | None = option(None, "Pixel size of the slide.", unit="µm")
    trust_mpp: Flag = option(False, "Slide: take --mpp even if the slide says otherwise.")
    classes: tuple[str, ...] | None = option(
        None, "Cells: count these only, such as Tumor.", metavar="A,B", commas=True
    )
    positive: tuple[Text, ...] | None = option(
        None, "Cells: classes that are positive; if left out: Positive, 1+, 2+, 3+.", metavar="NAME,..", commas=True
    )
    negative: tuple[Text, ...] | None = option(
        None, "Cells: classes that are negative; if left out: Negative.", metavar="NAME,..", commas=True
    )
    unclassified_negative: Flag = option(False, "Cells: count those without a class as negative.")
    image: str | None = option(None, "Cells: which slide of a file that holds several.")
    window_um: Positive | None = option(
        None, "Cells: edge of the hot spot; if left out, by the density of the cells.", unit="µm"
    )
    min_cells: Annotated[Whole, Field(ge=1)] = option(RECOMMENDED_CELLS, "Cells: least number in a hot spot.")
    stains: str | None = option(None, "Slide: QuPath's stain vectors (JSON text), a file of them, or: estimate.")
    background: tuple[Number, Number, Number] | None = option(
        None, "Slide: colour of the glass; if left out, estimated.", metavar="R,G,B", commas=True
    )
    threshold: Positive = option(
        0.2, "Slide: DAB optical density from which a pixel, or the mean of a cell, is stained."
    )
    um_per_px: Positive | None = option(
        None, "Slide: resolution at which pixels are judged; if left out: 1, and 0.5 for cells.", unit="µm"
    )
    tissue: Flag = option(True, "Slide: count tissue only, or all of the region.", flag="--tissue/--no-tissue")
    map_um: Positive | None = option(None, "Write a map too, of patches of this size.", unit="µm")
    sub: SampleLabel | None = given(None, "Label of the sample, for the names of the files.")

    @property
    def stains_file(self) -> Path | None:
        """The file of stain vectors, if they are not written out or estimated."""
        text = self.stains
        return None if text is None or text == ESTIMATE or text.lstrip().startswith("{") else Path(text)

    def reads(self) -> Iterator[Path]:
        """Yield the files that are read, with the JSON files beside an export or slide, and the stain vectors."""
        yield from super().reads()
        yield from companions_of(self.source)
        record = None if self.slide is None else slide_record_path(self.slide)
        yield from _present(slide_record_path(self.source), record, self.stains_file)

    def refuse_useless(self, kind: Literal["a slide", "a cell table", "cells to measure"]) -> None:
        """Raise InputError for options that would silently do nothing with this kind of source."""
        of_classes = ("positive", "negative", "unclassified_negative")
        of_cells = (*of_classes, "classes", "image", "window_um", "min_cells", "slide")
        of_slides = ("stains", "background", "trust_mpp", "threshold", "um_per_px", "tissue")
        useless = {"a slide": of_cells, "a cell table": of_slides, "cells to measure": (*of_classes, "tissue")}
        for name in useless[kind]:
            if getattr(self, name) != type(self).model_fields[name].default:
                flag = "--no-tissue" if name == "tissue" else f"--{name.replace('_', '-')}"
                problem = f"is {kind}, for which there is no {flag}"
                hint = f"leave out {flag}"
                if kind == "a cell table":
                    hint += ", or give the slide too, --slide, to measure the stain of each cell"
                raise InputError(problem, path=self.source, hint=hint)
