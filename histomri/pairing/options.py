"""The options of `histomri pair` and `histomri join`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from histomri.core.options import Options, SizeName, Text, Whole, argument, given, option, output


class PairOptions(Options):
    """Put histology and MRI side by side in one table, voxel by voxel or per sample.

    Example: histomri pair histo/ mri/ --xfm xfm/sub-1_from-histo_to-dwi_mode-image_xfm.json -o pairs.csv
    """

    histo_dir: Path = argument("Folder with the histology maps (*_histomap.nii.gz).")
    mri_dir: Path = argument("Folder with the fitted maps (*_dwimap.nii.gz), or folders of them.")
    xfm: Path | None = given(None, "Transform from histology to MRI, from histomri register.")
    per: Literal["voxel", "sample"] = option("voxel", "A row per voxel, or per sample.")
    sample: Text | None = given(None, "Name of the sample; by default the one in the file names.")
    patient: Text | None = given(None, "Patient or animal, where several samples are from one: a column of the table.")
    group: Text | None = given(None, "Experimental group of the sample.")
    scanner: Text | None = given(None, "Scanner of the MRI.")
    size: SizeName | None = option(
        None, "Histology: paper (as published), volume (cells in 3D); by default what histomri patches has settled."
    )
    mask: Path | None = given(None, "Mask on the grid of the MRI: voxels to use.")
    slice: Annotated[Whole, Field(ge=0)] | None = given(
        None, "MRI slice, from 0; by default where the transform puts the histology."
    )
    voxel_out: Path | None = output(
        None, "With a row per sample: the table of the voxels too, unless only means can be compared.", hidden=True
    )

    def reads(self) -> Iterator[Path]:
        """Yield the folders, the mask, and the transform with all files of its name: affine, displacements, record."""
        yield from super().reads()
        if self.xfm is not None and self.xfm.parent.is_dir():
            stem = self.xfm.name.split(".")[0].removesuffix("0GenericAffine")
            yield from (path for path in sorted(self.xfm.parent.glob("*")) if path.name.startswith(stem))


class _TablesOptions(Options):
    tables: tuple[Path, ...]

    def reads(self) -> Iterator[Path]:
        """Yield the tables and their sidecars."""
        for table in self.tables:
            yield table
            if (sidecar := table.with_suffix(".json")).exists():
                yield sidecar


class JoinOptions(_TablesOptions):
    """Put the tables of several samples under each other, for score and the statistics.

    Example: histomri join a/pairs.csv b/pairs.csv c/pairs.csv -o pairs.csv
    """

    tables: tuple[Path, ...] = argument("Tables of histomri pair, all per voxel or all per sample.", metavar="TABLES..")

    @field_validator("tables")
    @classmethod
    def _several(cls, tables: tuple[Path, ...]) -> tuple[Path, ...]:
        if len(tables) < 2:
            raise ValueError("there is nothing to join; give at least two tables")
        return tables


class PairsOptions(_TablesOptions):
    """Put the pairs of the samples of a study under each other, beside what its file says of them."""

    tables: tuple[Path, ...] = argument("Tables of histomri pair, a row per sample, model and strategy.")
    measures: dict[str, dict[str, float]] = given({}, "Measurements of each sample by name, such as Ki67_fraction.")
    free_water_um2_ms: dict[str, float] = given(
        {}, "Diffusivity of free water where each sample was scanned; if they differ, ADC is given over it too."
    )


class ResidualsOptions(Options):
    """Pool what the fits of the samples of a study do not explain, over the voxels of all of them."""

    folders: dict[str, Path] = given(..., "Folder of the fitted maps of each sample, with a subfolder per strategy.")
    scanners: dict[str, str | None] = given({}, "Scanner of each sample.")

    def reads(self) -> Iterator[Path]:
        """Yield the tables of residuals and their counts."""
        for folder in self.folders.values():
            for ending in ("csv", "parquet"):
                yield from sorted(folder.glob(f"*/*_residuals.{ending}"))
