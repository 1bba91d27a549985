"""Which rows become cells; each row that does not is counted under the first reason that applies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.raw import RawExport
from histomri.cells.units import Measures
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError

# No section is a metre wide: a position beyond that is a wrong unit or a damaged number.
LARGEST_UM = 1e6
_OUTSIDE_REGION = "outside the region of interest"
_FEW_INSIDE, _NEARLY_ALL = 0.5, 0.9
_LEGACY_TYPES = {
    "pathcellobject": "cell",
    "pathdetectionobject": "detection",
    "pathtileobject": "tile",
    "pathannotationobject": "annotation",
    "pathrootobject": "root",
    "tmacoreobject": "tma core",
    "tma_core": "tma core",
    "tmacore": "tma core",
}


@dataclass
class Sieve:
    """Rows that are still there, and how many went for which reason."""

    keep: BoolArray
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, rows: BoolArray) -> None:
        """Take out the rows where `rows` is true."""
        gone = rows & self.keep
        count = int(np.count_nonzero(gone))
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            self.keep = self.keep & ~gone

    def describe(self) -> str:
        """Return the reasons as one clause."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())


@dataclass(frozen=True)
class Limits:
    """What the user wants to keep."""

    classes: tuple[str, ...] | None = None
    min_size_um: float | None = None
    max_size_um: float | None = None
    min_probability: float | None = None
    region: BaseGeometry | None = None
    field_um: tuple[float, float] | None = None


def categories(column: pa.ChunkedArray) -> tuple[list[str], FloatArray]:
    """Return the distinct texts of a column, and the code of each row; equal texts have one code."""
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        if encoded.num_chunks == 0:
            return [], np.zeros(0, dtype=np.int32)
        encoded = encoded.chunk(0)
    return [str(text) for text in encoded.dictionary.to_pylist()], encoded.indices.to_numpy(zero_copy_only=False)


def object_types(raw: RawExport) -> tuple[list[str], FloatArray] | None:
    """Return the types of the objects in today's words (``cell``, ``detection``, ...), None if not told."""
    name = "object_type" if "object_type" in raw.text else "name"
    if name not in raw.text:
        return None
    texts, codes = categories(raw.text[name])
    if name == "object_type":
        return [_LEGACY_TYPES.get(text.strip().lower(), text.strip().lower()) for text in texts], codes
    # Until 0.4 the name fell back to the Java class of the object; any other name is the user's and tells no type.
    types = [_LEGACY_TYPES.get(text.strip().lower(), "") for text in texts]
    return (types, codes) if any(types) else None


def sift(raw: RawExport, measures: Measures, sieve: Sieve, limits: Limits) -> None:
    """Drop the rows that are no cells, have no usable numbers, or are not wanted."""
    _drop_other_objects(raw, sieve)
    with np.errstate(invalid="ignore"):
        x, y = measures.x_um, measures.y_um
        sieve.drop("without a position", np.isnan(x) | np.isnan(y))
        far = (x > LARGEST_UM) | (x < -LARGEST_UM) | (y > LARGEST_UM) | (y < -LARGEST_UM)
        sieve.drop("more than a metre off the slide", far)
        area = measures.area_um2
        sieve.drop("without an area", np.isnan(area))
        sieve.drop("with an infinite area", np.isinf(area))
        sieve.drop("with an area of zero or less", area <= 0)
        _drop_outside_field(raw, measures, sieve, limits.field_um)
        if limits.classes is not None:
            _drop_classes(raw, sieve, limits.classes)
        if limits.region is not None:
            _drop_outside_region(raw, measures, sieve, limits.region)
        if limits.min_probability is not None:
            _drop_improbable(raw, measures, sieve, limits.min_probability)
        if limits.min_size_um is not None:
            sieve.drop(f"smaller than {limits.min_size_um:g} µm", np.sqrt(4 * area / np.pi) < limits.min_size_um)
        if limits.max_size_um is not None:
            sieve.drop(f"larger than {limits.max_size_um:g} µm", np.sqrt(4 * area / np.pi) > limits.max_size_um)


def _drop_other_objects(raw: RawExport, sieve: Sieve) -> None:
    types = object_types(raw)
    if types is None:
        return
    names, codes = types
    other = np.array([bool(name) and name not in ("cell", "detection") for name in names], dtype=bool)
    if other.any() and len(codes) and other[codes].all():
        kinds = sorted({names[code] for code in np.unique(codes)})
        raise InputError(
            f"holds no cells: its {raw.n_rows:,} objects are of type {', '.join(kinds)}",
            path=raw.path,
            hint="export again from QuPath with Measure > Export measurements, export type 'Cells'",
        )
    sieve.drop("not a cell or detection", other[codes])


def _drop_outside_field(raw: RawExport, measures: Measures, sieve: Sieve, field_um: tuple[float, float] | None) -> None:
    if field_um is None:
        return
    outside = (measures.x_um < 0) | (measures.y_um < 0)
    outside |= (measures.x_um > field_um[0]) | (measures.y_um > field_um[1])
    share = int(np.count_nonzero(outside & sieve.keep)) / max(int(np.count_nonzero(sieve.keep)), 1)
    if share > 0.5:
        raise InputError(
            f"{share:.0%} of the cells lie outside the slide of {field_um[0]:.0f} x {field_um[1]:.0f} µm: wrong "
            "image, wrong unit, or an image that was rotated or cropped in QuPath",
            path=raw.path,
            hint="check that the table and its JSON file belong together",
        )
    sieve.drop("outside the slide", outside)


def class_names(text: str) -> list[str]:
    """Split a classification into its names, lower case: ``Tumor: Positive`` is tumor, positive."""
    names = [name.strip().lower() for name in text.split(":")]
    return [name for name in names if name not in ("", "none", "unclassified")]


def _drop_classes(raw: RawExport, sieve: Sieve, classes: Sequence[str]) -> None:
    """Keep rows whose classification holds all the names of one of `classes`."""
    if "classification" not in raw.text:
        raise InputError("has no classification, so --classes cannot be applied", path=raw.path)
    texts, codes = categories(raw.text["classification"])
    wanted = [set(class_names(name)) for name in classes]
    fits = [any(want <= set(class_names(text)) if want else not class_names(text) for want in wanted) for text in texts]
    if not any(fits):
        raise InputError(
            f"no cell is of class {', '.join(map(repr, classes))}; its classes are "
            + ", ".join(repr(text or "None") for text in texts[:20]),
            path=raw.path,
            hint="pass --classes with names from that list",
        )
    sieve.drop("of another class", ~np.array(fits, dtype=bool)[codes])


def _drop_improbable(raw: RawExport, measures: Measures, sieve: Sieve, least: float) -> None:
    probability = measures.others.get("detection_probability")
    if probability is None:
        raise InputError(
            "has no column 'Detection probability', so --min-probability cannot be applied",
            path=raw.path,
            hint="leave it out, or detect with StarDist and includeProbability(true)",
        )
    sieve.drop("without a detection probability", np.isnan(probability))
    sieve.drop(f"of a detection probability below {least:g}", probability < np.float32(least))


def _drop_outside_region(raw: RawExport, measures: Measures, sieve: Sieve, region: BaseGeometry) -> None:
    shapely.prepare(region)
    inside = np.zeros(sieve.keep.shape, dtype=bool)
    rows = np.flatnonzero(sieve.keep)
    x, y = measures.x_um[rows], measures.y_um[rows]
    inside[rows] = shapely.contains_xy(region, x, y)
    if rows.size and not inside.any():
        low_x, low_y, high_x, high_y = region.bounds
        raise InputError(
            f"no cell lies in the region of interest: the region spans x {low_x:.0f}-{high_x:.0f}, y {low_y:.0f}-"
            f"{high_y:.0f} µm, the cells x {x.min():.0f}-{x.max():.0f}, y {y.min():.0f}-{y.max():.0f} µm",
            path=raw.path,
            hint="the region must be of this image and, as QuPath writes it, in pixels of the full-resolution image",
        )
    sieve.drop(_OUTSIDE_REGION, ~inside)


def region_in_other_unit(
    measures: Measures, sieve: Sieve, region: BaseGeometry, pixel_size_um: tuple[float, float] | None
) -> tuple[str, ...]:
    """Tell a region that holds few cells, and would hold nearly all in another unit."""
    kept, lost = int(np.count_nonzero(sieve.keep)), sieve.dropped.get(_OUTSIDE_REGION, 0)
    if pixel_size_um is None or kept >= _FEW_INSIDE * (kept + lost):
        return ()
    x, y = measures.x_um, measures.y_um
    known = np.isfinite(x) & np.isfinite(y)
    for words, factors in (("divided", 1 / np.array(pixel_size_um)), ("multiplied", np.array(pixel_size_um))):
        scaled = shapely.transform(region, lambda points, by=factors: points * by)
        share = float(np.mean(shapely.contains_xy(scaled, x[known], y[known])))
        if share > _NEARLY_ALL:
            return (
                f"the region of interest holds {kept:,} of {kept + lost:,} cells, and would hold {share:.0%} "
                f"{words} by the pixel size: is it in µm, where pixels of the full-resolution image are expected, and "
                "are the positions of the cells in the unit that their column states?",
            )
    return ()
