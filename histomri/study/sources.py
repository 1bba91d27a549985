"""Where the inputs of a step come from: the sample, an earlier step, or a rule that a study follows.

Each source is called with the place where the step runs, and returns the value of a field, or `UNSET` if there is
none. What a step gets this way is all that it sees, and all that decides whether it must be run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from histomri.core.errors import InputError
from histomri.core.presets import PRESETS

if TYPE_CHECKING:
    from histomri.study.sample import Sample

UNSET: Any = object()


@dataclass(frozen=True)
class Place:
    """Where a step runs.

    Attributes
    ----------
    folder : Path
        Of the sample, or of the study.
    sample : Sample or None
        None for the steps over all samples.
    samples : sequence of Sample
        Those that are finished, for the steps over all samples.
    preset : str
        Of the sample, or else of the study.
    active : frozenset of str
        The steps that are run here.
    planned : bool
        Whether nothing is there yet, and paths are only checked for sense.
    options : mapping of section to mapping
        What the study file says.
    """

    folder: Path
    preset: str
    sample: "Sample | None" = None
    samples: "Sequence[Sample]" = ()
    active: frozenset[str] = frozenset()
    planned: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def path(self, text: str) -> Path:
        """Return a path below the folder, in which ``{id}`` stands for that of the sample."""
        return self.folder / text.format(id=self.sample.id if self.sample is not None else "")

    def of_sample(self, sample: "Sample", text: str) -> Path:
        """Return a path below the folder of a sample."""
        return self.folder / f"sub-{sample.id}" / text.format(id=sample.id)


class Source(Protocol):
    """Where a field comes from; `steps` names the steps whose results it is."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps whose results it reads."""

    def __call__(self, place: Place) -> Any:
        """Return the value, or `UNSET`."""


@dataclass(frozen=True)
class Key:
    """A key of the sample."""

    name: str
    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return what the sample says."""
        value = getattr(place.sample, self.name, None)
        return UNSET if value is None else value


@dataclass(frozen=True)
class Value:
    """What a study always does."""

    value: Any
    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return it."""
        return self.value


@dataclass(frozen=True)
class Result:
    """A file or folder that another step has written, unless the step is not run; `optional` if it may not be there."""

    step: str
    path: str
    optional: bool = False
    also: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that write it."""
        return (self.step, *self.also)

    def __call__(self, place: Place) -> Any:
        """Return its path."""
        path = place.path(self.path)
        missing = self.step not in place.active or (self.optional and not path.exists())
        return UNSET if missing else path


@dataclass(frozen=True)
class Either:
    """The first of several sources that has a value."""

    first: Source
    second: Source

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of both."""
        return (*self.first.steps, *self.second.steps)

    def __call__(self, place: Place) -> Any:
        """Return the value of the first, or else of the second."""
        found = self.first(place)
        return self.second(place) if found is UNSET else found


@dataclass(frozen=True)
class Preset:
    """The preset of one side, ``histology`` or ``mri``, unless the section names one."""

    side: str
    section: str
    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return its name."""
        own = place.options.get(self.section, {}).get("preset")
        return own or (PRESETS[place.preset].histology if self.side == "histology" else place.preset)


@dataclass(frozen=True)
class IfOutlines:
    """Outlines of the cells are kept where patches cut the cells along them."""

    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return true, or leave it to the section."""
        return True if place.options.get("patches", {}).get("assign") == "clip" else UNSET


@dataclass(frozen=True)
class WithLandmarks:
    """What landmarks are for; in a study of many samples it is no mistake that some have none."""

    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return what the section says, "start" for a sample that has none to check by."""
        wanted = place.options.get("registration", {}).get("landmarks_for", UNSET)
        return "start" if wanted == "check" and getattr(place.sample, "landmarks", None) is None else wanted


@dataclass(frozen=True)
class GoodTransform:
    """The transform of the registration, which must not have failed: pairs of voxels would say nothing."""

    path: str
    steps: tuple[str, ...] = ("register",)

    def __call__(self, place: Place) -> Any:
        """Return its path; InputError if the registration failed."""
        path = place.path(self.path)
        if "register" not in place.active:
            return UNSET
        if place.planned:
            return path
        from histomri.registration import Transform

        quality = Transform.load(path).info.get("Registration", {}).get("QualityControl", {})
        if quality.get("verdict") == "failed":
            reasons = "; ".join(quality.get("reasons", ())) or "the outlines do not agree"
            raise InputError(
                f"the registration failed ({reasons})",
                hint='give landmarks, mask or mri_slice, or compare means with registration = { kind = "none" }',
            )
        return path


@dataclass(frozen=True)
class FitMaps:
    """The fitted maps of cell size, fraction and density, of every model and strategy."""

    steps: tuple[str, ...] = ("fit",)

    def __call__(self, place: Place) -> Any:
        """Return their paths."""
        if place.planned:
            return (place.path("mri/sub-{id}_param-vCS_dwimap.nii.gz"),)
        found = (place.folder / "mri").glob("*/*_param-*_dwimap.nii.gz")
        return tuple(
            sorted(path for path in found if path.name.split("_param-")[1].split("_")[0] in ("vCS", "F", "CD"))
        )


@dataclass(frozen=True)
class Results:
    """The results of a step of every finished sample: sample to path, or the paths alone."""

    step: str
    path: str
    by_sample: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The step that writes them."""
        return (self.step,)

    def __call__(self, place: Place) -> Any:
        """Return the paths, in the order of the study."""
        found = {f"sub-{sample.id}": place.of_sample(sample, self.path) for sample in place.samples}
        return found if self.by_sample else tuple(found.values())


@dataclass(frozen=True)
class Mapped:
    """A fact of every finished sample: sample to value, samples without one left out."""

    name: str
    prefix: str = ""
    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return the facts."""
        facts = {f"{self.prefix}{sample.id}": getattr(sample, self.name) for sample in place.samples}
        return {key: value for key, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Measures:
    """The measurements that the study file gives by hand: sample to name to value."""

    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return them."""
        return {sample.id: dict(sample.measures) for sample in place.samples}


@dataclass(frozen=True)
class MeasureNames:
    """The names of the measurements that are correlated and compared beside those of histomri."""

    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return them."""
        by_hand = dict.fromkeys(name for sample in place.samples for name in sample.measures)
        return (*by_hand, "ADC_per_water")


@dataclass(frozen=True)
class FreeWater:
    """The diffusivity of free water where each sample was scanned."""

    steps: tuple[str, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Return sample to µm²/ms."""
        presets = {
            sample.id: sample.options.get("fit", {}).get("preset") or sample.preset or place.preset
            for sample in place.samples
        }
        return {name: PRESETS[preset].free_water_um2_ms for name, preset in presets.items()}


@dataclass(frozen=True)
class OwnTable:
    """The table that a section names, or else the result of a step."""

    section: str
    otherwise: Source

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps whose results it reads without a table of its own."""
        return self.otherwise.steps

    def __call__(self, place: Place) -> Any:
        """Return its path."""
        return place.options.get(self.section, {}).get("table") or self.otherwise(place)


@dataclass(frozen=True)
class Ranking:
    """The ranking of the models, for a section that names no table of its own: such a table is of other models."""

    section: str
    scores: Source

    @property
    def steps(self) -> tuple[str, ...]:
        """The step that ranks."""
        return self.scores.steps

    def __call__(self, place: Place) -> Any:
        """Return its path."""
        return UNSET if "table" in place.options.get(self.section, {}) else self.scores(place)
