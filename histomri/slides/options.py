"""The options of `histomri qupath-grid`, and what commands on fat share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from histomri.core.calibration import slide_record_path
from histomri.core.files import sidecar_path
from histomri.core.options import Options, Pair, argument, given, option

# Of fat vacuoles: where size classes begin and end (µm), how empty a pixel is (pale cytoplasm has twice the optical
# density and more), and how round a vacuole.
EDGES_UM, EMPTY_OD, ROUNDNESS = (5.0, 15.0, 40.0), 0.06, 0.8


class QupathGridOptions(Options):
    """Write maps as GeoJSON tiles with measurements, so that patches or MRI voxels lie on the slide in QuPath.

    All maps must be of one grid; each becomes a measurement. Tiles without any value are left out.

    Example: histomri qupath-grid mri/sub-1_model-diffin_param-*_dwimap.nii.gz -o A01.geojson --mpp 0.2268
    --xfm xfm/sub-1_from-histo_to-dwi_mode-image_xfm.json
    """

    maps: Annotated[tuple[Path, ...], Field(min_length=1)] = argument("NIfTI maps of one grid.", metavar="MAP..")
    mpp: Pair | None = option(None, "Pixel size of the slide.", unit="µm")
    slide: Path | None = given(
        None, "The slide, or the .histomri.json of its export: pixel size, and where the slide ends."
    )
    xfm: Path | None = given(None, "For MRI maps: the transform from the section to the MRI (.json, .tfm).")

    def reads(self) -> Iterator[Path]:
        """Yield the files that are read, with the sidecars of maps and slide, and the warp of a transform."""
        yield from super().reads()
        yield from (path for path in map(sidecar_path, self.maps) if path.exists())
        if self.slide is not None and (record := slide_record_path(self.slide)) is not None:
            yield record
        if self.xfm is not None:
            stem = self.xfm.name.split(".")[0].removesuffix("0GenericAffine")
            yield from sorted(path for path in self.xfm.parent.glob(f"{stem}*") if path != self.xfm)
