"""What a study file can say of a sample, section by section, each value checked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from histomri.core.presets import PRESETS, PresetName, Strategy

ModelName = Literal["diff-in", "diff-in-ex", "diff-in-ex-fast", "diff-in-extd", "diff-in-extd-fast"]
SigmaEstimate = Literal["estimate", "mppca", "piesno"]
# Python takes true for 1 and "no" for false; a study file that says so is mistaken.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Pair = tuple[Positive, Positive]

# Preset of a study -> (preset of the histology, preset of the MRI fit).
STUDY_PRESETS: dict[str, tuple[str, str]] = {name: (preset.histology, name) for name, preset in PRESETS.items()}
_STEEPEST_DEG = 15.0
LONGEST_ID = 100  # with what stands around it, a name that file systems take


class Section(BaseModel):
    """A table of the study file: an unknown key is a mistake, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CellOptions(Section):
    """How the cell tables are read; the options of `histomri cells`."""

    mpp: Positive | Pair | None = None
    area_unit: Literal["um2", "px2"] | None = None
    classes: tuple[str, ...] | None = None
    min_size_um: Positive | None = None
    max_size_um: Positive | None = None
    min_probability: Annotated[Number, Field(ge=0, le=1)] | None = None
    image: str | None = None
    project: Path | None = None
    detections: Literal["nuclei", "cells"] = "nuclei"
    geometries: Flag = False


class PatchOptions(Section):
    """How patch maps are made; the options of `histomri patches`."""

    preset: Literal["mouse-exvivo", "human-biopsy", "none"] | None = None
    whole: Flag = False
    like_mri: Flag = True
    patch_um: Positive | Pair | None = None
    thickness_um: Positive | None = None
    section: Literal["sphere-mean", "wicksell", "none"] | None = None
    section_thickness_um: Positive = 4.0
    shrinkage: Annotated[Number, Field(ge=0, lt=1)] | None = None
    min_cells: Annotated[Whole, Field(ge=1)] = 1
    min_tissue: Annotated[Number, Field(ge=0, le=1)] = 0.25
    tissue: Literal["cells", "field"] = "cells"
    assign: Literal["centroid", "clip"] = "centroid"
    step_um: Positive | Pair | None = None

    @model_validator(mode="after")
    def _one_size(self) -> "PatchOptions":
        if self.whole and self.patch_um is not None:
            raise ValueError("one patch for the whole tissue has no patch_um; leave out one of the two")
        if not self.whole and not self.like_mri and self.patch_um is None:
            raise ValueError("with like_mri = false the patch size must be given: patch_um = 386")
        if self.like_mri and self.patch_um is not None:
            raise ValueError("patches are either like the MRI or of size patch_um; add like_mri = false")
        if self.assign == "clip" and self.step_um is not None:
            raise ValueError("overlapping patches (step_um) cannot share cells by area; leave out assign or step_um")
        return self


class FitOptions(Section):
    """Which models are fitted, and how; the options of `histomri fit`."""

    preset: PresetName | None = None
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = ("diff-in", "diff-in-ex")
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = ("whole", "high-b")
    noise: Literal["offset-gaussian", "rician", "none"] | None = None
    bic: Literal["schwarz", "paper"] = "schwarz"
    t2ivim: Flag | None = None
    kurtosis: Number | Literal["free"] | None = None
    dki: Flag = True
    residuals: Flag = False
    bootstrap: Literal[0] | Annotated[Whole, Field(ge=2)] = 0
    bootstrap_kind: Literal["parametric", "residual"] = "parametric"
    seed: Annotated[Whole, Field(ge=0)] = 0
    crlb: Flag = False


class RegistrationOptions(Section):
    """How the section is laid on its MRI slice; the options of `histomri register`. `none` pairs ROI means only."""

    kind: Literal["similarity", "affine", "bspline", "syn", "none"] = "bspline"
    engine: Literal["robust", "dipy"] = "robust"
    drive: Literal["outline", "both"] = "outline"
    flips: Flag = True
    angle: Number | None = None
    turned_over: Flag | None = None
    tilts: tuple[Number, ...] | None = None
    landmarks_for: Literal["start", "only", "check"] = "start"
    shrinkage: Annotated[Number, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _without_contradiction(self) -> "RegistrationOptions":
        if self.turned_over and not self.flips:
            raise ValueError("turned_over = true and flips = false contradict each other; leave out one of the two")
        if self.tilts and max(map(abs, self.tilts)) > _STEEPEST_DEG:
            raise ValueError(f"tilts are up to {_STEEPEST_DEG:g} degrees")
        names = ("engine", "drive", "flips", "angle", "turned_over", "tilts")
        useless = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if self.landmarks_for == "only" and (useless or self.kind == "syn"):
            raise ValueError(f'landmarks_for = "only" settles everything; leave out {", ".join(useless or ["kind"])}')
        return self

    def refuse_landmarks(self, landmarks: Path | None) -> None:
        """Raise a ValueError if a sample with these landmarks, or none, cannot be registered as these options say."""
        if self.landmarks_for == "only" and landmarks is None and self.kind != "none":
            raise ValueError('landmarks_for = "only" needs landmarks; name them, or say landmarks_for = "start"')
        if landmarks is None or self.landmarks_for != "start":
            return
        if self.engine == "dipy" or self.kind == "syn":
            raise ValueError('DIPY cannot hold landmarks; say engine = "robust", or landmarks_for = "check"')
        if self.angle is not None:
            raise ValueError("landmarks tell the rotation; leave out angle or landmarks")


class PredictionOptions(Section):
    """What is predicted from two metrics, such as tumour volume; the options of `histomri predict`."""

    target: str
    table: Path | None = None
    x: str = "D0I_mri_um2_ms"
    y: str = "vCS_mri_um"
    group_by: str | None = None
    bases: Annotated[tuple[Literal["cubic", "printed"], ...], Field(min_length=1)] = ("cubic", "printed")
    log10: Flag = True
    folds: Annotated[Whole, Field(ge=2)] = 5
    seed: Annotated[Whole, Field(ge=0)] = 0
    model: ModelName | None = None
    strategy: Strategy | None = None


SECTIONS = ("cell_options", "patches", "fit", "registration")
_FILE_KEYS = ("dwi", "mask", "sigma", "roi", "slide", "s0", "fv", "t2t", "landmarks")
PATH_KEYS = ("cells", "protocol", *_FILE_KEYS)


class Sample(Section):
    """One section of histology and its MRI, with the options that differ from the rest of the study."""

    id: str
    cells: Annotated[tuple[Path, ...], Field(min_length=1)]
    dwi: Path
    protocol: str
    patient: Label | None = None
    group: str | None = None
    scanner: str | None = None
    preset: PresetName | None = None
    measures: dict[Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")], Number] = {}
    mask: Path | None = None
    sigma: Positive | SigmaEstimate | Path | None = None
    roi: Path | None = None
    slide: Path | None = None
    mri_slice: Annotated[Whole, Field(ge=0)] | None = None
    s0: Path | None = None
    fv: Path | None = None
    t2t: Path | None = None
    landmarks: Path | None = None
    cell_options: CellOptions = CellOptions()
    patches: PatchOptions = PatchOptions()
    fit: FitOptions = FitOptions()
    registration: RegistrationOptions = RegistrationOptions()

    @field_validator("cells", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("id")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not (value.isascii() and value.isalnum()):
            raise ValueError(f"{value!r} names files, so it may hold only letters and digits without accents")
        if len(value) > LONGEST_ID:
            raise ValueError(f"names files, so it may be {LONGEST_ID} letters long at most")
        return value

    @field_validator("measures")
    @classmethod
    def _new(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            return value
        from histomri.pairing.columns import PATIENT, describe_columns

        # A number for the patient was the only way to name one before there was a key for it.
        if taken := [name for name in value if name in describe_columns() and name != PATIENT]:
            raise ValueError(f"{taken[0]} is a column of histomri; give yours another name")
        return value

    @model_validator(mode="after")
    def _can_be_registered(self) -> "Sample":
        self.registration.refuse_landmarks(self.landmarks)
        return self

    def label(self, column: str) -> str | None:
        """Return what stands in a column of the table of samples that tells them apart, None if nothing does."""
        labels = {"sample": self.id, "patient": self.patient, "group": self.group, "scanner": self.scanner}
        return labels.get(column) or (str(self.measures[column]) if column in self.measures else None)

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield (key, path) of every file the sample names."""
        for path in self.cells:
            yield "cells", path
        for key in _FILE_KEYS:
            value = getattr(self, key)
            if isinstance(value, Path):
                yield key, value
        if self.cell_options.project is not None:
            yield "cell_options.project", self.cell_options.project
        if isinstance(protocol := protocol_source(self.protocol), Path):
            yield "protocol", protocol

    def dump(self, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return the sample as plain data, unset keys left out, each path written by `show`."""
        content = self.model_dump(exclude_none=True)
        if isinstance(protocol := protocol_source(self.protocol), Path):
            content["protocol"] = protocol
        return {key: shown(value, show) for key, value in content.items()}


def shown(value: Any, show: Callable[[Path], str]) -> Any:
    """Return plain data in which each path is written by `show`."""
    if isinstance(value, tuple):
        return [shown(item, show) for item in value]
    if isinstance(value, dict):
        return {key: shown(item, show) for key, item in value.items()}
    return show(value) if isinstance(value, Path) else value


def protocol_source(protocol: str) -> Path | str:
    """Return the protocol as a path, or as the name of a preset."""
    return protocol if protocol in STUDY_PRESETS else Path(protocol)
