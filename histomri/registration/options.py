"""The options of `histomri register` and `histomri apply`, and the engines that these choose from.

Each engine is declared with what it can hold: contradictions between options follow from that. One is added by a file
with a class like `outline_engine.OutlineEngine`, and a declaration of it here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from histomri.core.calibration import slide_record_path
from histomri.core.options import (
    Choices,
    Flag,
    Number,
    Options,
    Pair,
    Positive,
    Shrinkage,
    Text,
    Whole,
    argument,
    given,
    option,
)

SEARCH_OPTIONS = ("landmarks", "tilts", "angle", "turned_over", "flips")
"""Options of the search that not every engine can hold."""
WHOLE_SLIDES = (".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".tif", ".tiff")
SLIDES = (*WHOLE_SLIDES, ".png", ".jpg", ".jpeg")
INPUTS = {"map": (".nii", ".nii.gz"), "slide": SLIDES, "GeoJSON file": (".geojson", ".json"), "table": (".csv", ".tsv")}
_USED_BY = {
    "map": ("like", "interpolation"),
    "slide": ("like", "mpp", "fixed_mpp", "interpolation", "slice"),
    "GeoJSON file": ("mpp", "fixed_mpp"),
    "table": (),
}
Kind = Literal["similarity", "affine", "bspline", "syn", "tps"]
Slice = Annotated[Whole, Field(ge=0)]
Tilts = Annotated[tuple[Annotated[Number, Field(ge=-15, le=15)], ...], Field(min_length=1)]
Transforms = Annotated[
    tuple[Path, ...], BeforeValidator(lambda paths: paths if isinstance(paths, list | tuple) else [paths])
]


@dataclass(frozen=True)
class Engine:
    """The kinds of transform that an engine finds, which of `SEARCH_OPTIONS` it holds, and its class, module:Class."""

    name: str
    kinds: tuple[str, ...]
    holds: frozenset[str]
    code: str = ""

    def load(self) -> Any:
        """Return an instance of its class, loaded now: an `outline_engine.OutlineEngine` or one like it."""
        module, name = self.code.split(":")
        return getattr(import_module(module), name)()


_KINDS, _ALL = ("similarity", "affine", "bspline"), frozenset(SEARCH_OPTIONS)
ENGINES = {
    "robust": Engine("robust", _KINDS, _ALL, "histomri.registration.outline_engine:OutlineEngine"),
    "dipy": Engine("dipy", _KINDS, _ALL - {"landmarks"}, "histomri.registration.dipy_engine:DipyEngine"),
}
LANDMARKS_ONLY = Engine("landmarks", (*_KINDS, "tps"), frozenset({"landmarks"}))
"""Landmarks that settle everything, in place of an engine; "bspline" is a thin plate where there are enough."""


def resolve(kind: str, engine: str) -> tuple[str, str]:
    """Return kind and engine, of which "syn" is the usual name for both: DIPY's deformation."""
    return ("bspline", "dipy") if kind == "syn" else (kind, engine)


def is_slide(path: Path) -> bool:
    """Tell whether a file is a slide or a picture of one, by its ending."""
    return path.name.lower().endswith(SLIDES)


def is_geojson(path: Path) -> bool:
    """Tell whether a file holds annotations, by its ending."""
    return path.name.lower().endswith((".geojson", ".json"))


class RegisterOptions(Options):
    """Find where a histology section lies in the MRI, or on another section.

    Writes the transform as JSON and for ITK (.tfm), the map on the grid of the MRI, and pictures to check it by, and
    says how sure it is: good, check or failed.

    Example: histomri register sub-1_param-F_histomap.nii.gz dwi.nii.gz -o xfm --slice 4

    Serial sections: histomri register HE.svs Ki67.svs -o xfm
    """

    removed: ClassVar[Mapping[str, str]] = {
        "drive": "leave it out; only outlines are matched, as matching what the maps show raises their correlation"
    }

    moving: Path = argument("NIfTI map of the histology section, or a slide.", metavar="MOVING")
    fixed: Path = argument("MRI, 2D to 4D (its first volume), or the slide of another section.", metavar="FIXED")
    moving_mask: Path | None = given(None, "Tissue mask of the section, on any grid; of a slide also QuPath GeoJSON.")
    fixed_mask: Path | None = given(None, "Tissue mask of FIXED.")
    exclude: Path | None = given(
        None, "Regions of the section to leave out, on both sides: QuPath GeoJSON (of a map: --mpp), or a NIfTI mask."
    )
    fixed_exclude: Path | None = given(None, "Regions of FIXED to leave out, on both sides.")
    landmarks: Path | None = given(
        None,
        "Matching points: a table with moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm (.._um on slides); or, with "
        "--fixed-landmarks, points of the section (CSV, QuPath GeoJSON, Slicer .fcsv or .mrk.json).",
    )
    fixed_landmarks: Path | None = given(None, "The same points in FIXED.")
    slice: Slice | None = given(None, "Slice of the MRI, from 0; all are tried if not given.")
    sub: Text | None = given(None, "Subject label for the names of the results.")
    mpp: Pair | None = given(None, "Pixel size of the slide, if it states none; and for points in px.", unit="µm")
    fixed_mpp: Pair | None = given(None, "Pixel size of the slide FIXED, if it states none; else --mpp.", unit="µm")
    kind: Kind = option(
        "bspline",
        "similarity, affine, bspline (affine, then deformed where that clearly helps) or syn (by DIPY). With landmarks "
        "only: similarity, affine, tps, or bspline, which is tps from 4 landmarks on and affine below.",
    )
    engine: Annotated[str, Choices(tuple(ENGINES))] = option("robust", "What matches section and MRI.")
    flips: Flag = option(True, "Whether the section may lie with its other side up.", flag="--flip/--no-flip")
    angle: Number | None = option(None, "Rotation of the section, if it is known.", unit="degrees")
    turned_over: Flag | None = option(None, "Which side of the section is up.", flag="--turned-over/--as-it-lies")
    tilts: Tilts | None = option(None, "Tilts of the best slices to try, degrees, such as -4,4.", commas=True)
    landmarks_for: Literal["start", "only", "check"] = option(
        "start", "What landmarks do: give the start, settle everything, or only measure the error.",
        switches={"--landmarks-only": "only", "--landmarks-check": "check"},
    )  # fmt: skip
    shrinkage: Shrinkage | None = option(None, "Expected linear shrinkage of the section; 0.129, or 0 onto a slide.")
    figures: Flag = option(True, "Draw pictures, and a page with a slider, to look at.")

    @model_validator(mode="after")
    def _agree(self) -> "RegisterOptions":
        if self.turned_over and not self.flips:
            raise ValueError("{turned_over} and {flips} contradict each other; leave one of them out")
        if self.landmarks is None and (self.fixed_landmarks is not None or self.landmarks_for != "start"):
            raise ValueError("there are no landmarks of the section; give {landmarks}, or leave {landmarks_for} out")
        if self.fixed_mpp is not None and not is_slide(self.fixed):
            raise ValueError(f"{{fixed_mpp}} does nothing: {self.fixed.name} is no slide; leave it out")
        in_px = self.fixed_landmarks is not None or is_slide(self.moving) or is_slide(self.fixed)
        in_px = in_px or (self.exclude is not None and is_geojson(self.exclude))
        self._fit_the_exclusions()
        if self.mpp is not None and not in_px:
            raise ValueError("{mpp} does nothing: there is no slide, and there are no points in pixels; leave it out")
        self._fit_the_engine()
        return self

    def _fit_the_exclusions(self) -> None:
        """Refuse regions that would have no effect."""
        name = "exclude" if self.exclude is not None else "fixed_exclude" if self.fixed_exclude is not None else None
        if name is None:
            return
        if self.landmarks_for == "only":
            raise ValueError(f"{{{name}}} does nothing where landmarks alone settle everything; leave it out")
        if self.tilts is not None:
            raise ValueError(f"{{{name}}} cannot be left out of tilted slices; leave {{tilts}} out")

    def _fit_the_engine(self) -> None:
        """Refuse what the engine cannot hold, by its declaration, and what landmarks replace."""
        kind, name = resolve(self.kind, self.engine)
        only = self.landmarks_for == "only"
        engine = LANDMARKS_ONLY if only else ENGINES[name]
        if only and self.engine != type(self).model_fields["engine"].default:
            raise ValueError("{engine} does nothing where landmarks alone settle everything; leave it out")
        if (self.kind if only else kind) not in engine.kinds:
            where = "where landmarks alone settle everything" if only else f'by the engine "{name}"'
            raise ValueError(f'{{kind}} "{self.kind}" cannot be found {where}; use {", ".join(engine.kinds)}')
        searches = {**dict(self), "landmarks": self.landmarks if self.landmarks_for != "check" else None}
        defaults = {name: type(self).model_fields[name].default for name in SEARCH_OPTIONS}
        wrong = [name for name in SEARCH_OPTIONS if searches[name] != defaults[name] and name not in engine.holds]
        if wrong and only:
            raise ValueError(f"{{{wrong[0]}}} does nothing where landmarks alone settle everything; leave it out")
        if wrong:
            other = ', or let {landmarks_for} be "check"' if wrong[0] == "landmarks" else ""
            hint = f"leave it out, take another engine{other}"
            raise ValueError(f'the engine "{name}" cannot hold {{{wrong[0]}}}; {hint}')
        if searches["landmarks"] is not None and self.angle is not None:
            raise ValueError("{angle} does nothing where landmarks replace the search; leave it out")

    def reads(self) -> Iterator[Path]:
        """Yield every file that is read, companions included."""
        for path in super().reads():
            yield from with_companions(path)


class ApplyOptions(Options):
    """Apply a transform to a map, to a slide, to annotations or to points.

    Example: histomri apply sub-1_from-histo_to-dwi_mode-image_xfm.json sub-1_param-vCS_histomap.nii.gz
    --like dwi.nii.gz -o sub-1_space-dwi_param-vCS_histomap.nii.gz

    Cells of a serial section: histomri apply from-HE_to-Ki67_mode-image_xfm.json HE.geojson -o on_Ki67.geojson

    On to the MRI: histomri apply from-HE_to-Ki67_mode-image_xfm.json HE.geojson
    --then from-histo_to-dwi_mode-image_xfm.json -o on_mri.geojson
    """

    xfm: Path = argument(
        "Transform: .json, or of ITK, ANTs (.tfm, .txt, .mat, .h5), FSL (.mat), AFNI (.aff12.1D), FreeSurfer (.lta).",
        metavar="XFM",
    )
    input: Path = argument(
        "NIfTI map, slide, GeoJSON in slide pixels, or table with x_mm, y_mm[, z_mm] or x_um, y_um.", metavar="INPUT"
    )
    like: Path | None = given(None, "NIfTI image whose grid a map is drawn on; image or slide for a slide.")
    inverse: Flag = option(False, "From the MRI, or the other slide, back to the section.")
    then: Transforms = given(
        (), "Transform that comes after XFM, as from the next section to the MRI; may be repeated."
    )
    moving: Path | None = given(None, "Image that a matrix of FSL or AFNI was made with; INPUT, if that is a map.")
    fixed: Path | None = given(None, "The other image of such a matrix; --like, if a map is drawn on it.")
    mpp: Pair | None = given(
        None, "Pixel size of the section's slide, for GeoJSON and slides; else that of the registered one.", unit="µm"
    )
    fixed_mpp: Pair | None = given(None, "Pixel size of the slide it was laid on; GeoJSON ends in its px.", unit="µm")
    um_per_px: Positive = option(10.0, "Pixel size of a warped slide (.ome.tif).", unit="µm")
    slice: Slice | None = given(None, "Slice that a slide is drawn on; the registered one if not given.")
    interpolation: Literal["linear", "nearest", "cubic"] = option(
        "linear", "How values between voxels are found; nearest is for maps of labels, whose type is kept.",
        switches={"--nearest": "nearest", "--cubic": "cubic"},
    )  # fmt: skip

    @property
    def kind(self) -> str:
        """What the input is, by its ending: map, slide, GeoJSON file or table; empty if it is none of these."""
        return next((kind for kind, ends in INPUTS.items() if self.input.name.lower().endswith(ends)), "")

    @property
    def transforms(self) -> tuple[Path, ...]:
        """The transforms, the first one first."""
        return (self.xfm, *self.then)

    @property
    def grid(self) -> Path:
        """What a map or a slide is drawn on; `like`, which these need."""
        return self.like or self.input

    @property
    def order(self) -> int:
        """Order of the interpolation."""
        return {"nearest": 0, "linear": 1, "cubic": 3}[self.interpolation]

    @model_validator(mode="after")
    def _suit_the_input(self) -> "ApplyOptions":
        if not self.kind:
            what = f"{self.input.name}: a transform cannot be applied to this kind of file"
            raise ValueError(f"{what}; give .nii.gz, .geojson, .csv or a slide")
        for name in ("like", "mpp", "fixed_mpp", "interpolation", "slice"):
            changed = getattr(self, name) != type(self).model_fields[name].default
            cubic_slide = name == "interpolation" and self.interpolation == "cubic" and self.kind == "slide"
            if changed and (name not in _USED_BY[self.kind] or cubic_slide):
                value = f" {self.interpolation}" if name == "interpolation" else ""
                raise ValueError(f"{{{name}}}{value} does nothing to a {self.kind}; leave it out")
        if self.like is None and self.kind in ("map", "slide"):
            what = "a map needs a grid" if self.kind == "map" else "a slide needs an MRI or a slide"
            raise ValueError(f"{self.input.name}: {what} to be drawn on; give {{like}}")
        return self

    def reads(self) -> Iterator[Path]:
        """Yield every file that is read, companions included."""
        from histomri.registration.io.registry import companions

        for path in super().reads():
            yield from with_companions(path)
        for xfm in self.transforms:
            yield from companions(xfm)


def with_companions(path: Path) -> Iterator[Path]:
    """Yield a file and what is opened because a file of that name was given: sidecar, record, folder of tiles."""
    name, ending, beside = path.name, path.suffix.lower(), []
    if name.lower().endswith((".nii", ".nii.gz")):
        beside = [path.with_name(f"{name.removesuffix('.gz').removesuffix('.nii')}.json")]
    elif ending in (".hdr", ".img"):
        beside = [path.with_suffix(".img" if ending == ".hdr" else ".hdr")]
    elif is_slide(path):
        beside = [record] if (record := slide_record_path(path)) else []
        if ending in (".mrxs", ".vms", ".vmu"):  # their pixels lie in other files
            beside.append(path.with_suffix("") if ending == ".mrxs" else path.parent)
    yield from (path, *(each for each in beside if each.exists()))
