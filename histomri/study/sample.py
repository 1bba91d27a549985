"""What a study file says of a sample, and the record of what happened to it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from histomri.core.errors import StudyError
from histomri.core.files import TEMPORARY, read_json, write_json
from histomri.core.options import Choices, Number, Positive, Text, Whole, paths_in, plain
from histomri.core.presets import PRESET_NAMES

NOISE_METHODS = ("estimate", "mppca", "piesno")
LONGEST_ID = 100  # with what stands around it, a name that file systems take
RECORD_SCHEMA = 2
Measure = Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9_]*$")]


class Sample(BaseModel):
    """One section of histology and its MRI.

    The fields are the keys of a sample in the study file; `options` holds its sections, those of the study overridden
    by its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    cells: Annotated[tuple[Path, ...], Field(min_length=1)]
    dwi: Path
    protocol: Annotated[str, Choices(PRESET_NAMES)] | Path
    patient: Text | None = None
    group: str | None = None
    scanner: str | None = None
    protocol_format: Text | None = None
    b0_below: Positive | None = None
    delta_ms: Positive | None = None
    Delta_ms: Positive | None = None
    te_ms: Positive | None = None
    preset: Annotated[str, Choices(PRESET_NAMES)] | None = None
    measures: dict[Measure, Number] = {}
    mask: Path | None = None
    sigma: Positive | Annotated[str, Choices(NOISE_METHODS)] | Path | None = None
    roi: Path | None = None
    core: Text | None = None
    nuclei_mask: Path | None = None
    label_classes: Path | None = None
    slide: Path | None = None
    ki67_source: Path | None = None
    ki67_slide: Path | None = None
    mri_slice: Annotated[Whole, Field(ge=0)] | None = None
    s0: Path | None = None
    fv: Path | None = None
    t2t: Path | None = None
    exclude_volumes: tuple[Annotated[Whole, Field(ge=0)], ...] | None = None
    field_map: Path | None = None
    eddy: Path | None = None
    landmarks: Path | None = None
    options: dict[str, dict[str, Any]] = {}

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
        from histomri.core.columns import PATIENT, describe_columns

        # A number for the patient was the only way to name one before there was a key for it.
        if taken := [name for name in value if name in describe_columns() and name != PATIENT]:
            raise ValueError(f"{taken[0]} is a column of histomri; give yours another name")
        return value

    def label(self, column: str) -> str | None:
        """Return what stands in a column of the table of samples that distinguishes them, None if nothing does."""
        labels = {"sample": self.id, "patient": self.patient, "group": self.group, "scanner": self.scanner}
        return labels.get(column) or (str(self.measures[column]) if column in self.measures else None)

    @property
    def reading(self) -> dict[str, Any]:
        """How `read_acquisition` reads the protocol."""
        times = {"delta_ms": self.delta_ms, "Delta_ms": self.Delta_ms, "te_ms": self.te_ms}
        return {"format": self.protocol_format, "b0_below_smm2": self.b0_below, **times}

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield (key, path) of every file that the sample names."""
        for key in type(self).model_fields:
            if key != "options":
                yield from ((key, path) for path in paths_in(getattr(self, key)))
        for section, values in self.options.items():
            yield from ((f"{section}.{key}", path) for key, value in values.items() for path in paths_in(value))

    def keys(self, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return the keys as plain data, unset ones left out, each path written by `show`."""
        return plain(self.model_dump(exclude_none=True, exclude={"options"}), show)  # type: ignore[no-any-return]


@dataclass
class SampleOutcome:
    """What happened to one sample; what the report shows of it."""

    id: str
    group: str | None
    scanner: str | None
    mri_slice: int | None
    status: Literal["ok", "failed"] = "ok"
    stage: str | None = None
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    messages: dict[str, list[str]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)  # steps whose results of an earlier run were kept
    inputs: list[dict[str, str]] = field(default_factory=list)  # name and SHA-256 of the files that were read

    @classmethod
    def of(cls, sample: Sample, **about: Any) -> "SampleOutcome":
        """Begin the record of a sample."""
        return cls(sample.id, sample.group, sample.scanner, sample.mri_slice, **about)

    def save(self, folder: Path) -> Path:
        """Write the record into the folder of the sample; it also marks the folder as one of results."""
        return write_json(folder / "sample.json", {"schema": RECORD_SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> "SampleOutcome | None":
        """Read what an earlier run left; None if that is nothing, damaged, or of another version."""
        try:
            content = read_json(folder / "sample.json", "sample record")
            return cls(**content) if content.pop("schema") == RECORD_SCHEMA else None
        except (StudyError, ValueError, TypeError, KeyError, AttributeError):
            return None


def require_results_folder(folder: Path) -> None:
    """Raise StudyError if there are files in a sample's folder that no earlier run has made."""
    if not folder.exists() or (folder / "sample.json").exists():
        return
    if any(not path.name.startswith(TEMPORARY) for path in folder.iterdir()):
        raise StudyError(
            "holds files of something else, and results would go there", path=folder, hint="give another folder with -o"
        )
