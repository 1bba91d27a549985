"""Where the inputs of a step come from: the sample, an earlier step, or a rule that a study follows.

A source is asked at the place where the step runs, and gives the value of a field, or `UNSET` if there is none. What a
step gets this way is all that it sees, and all that decides whether it must be run again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    preset : str
        Of the sample, or else of the study.
    sample : Sample or None
        None for the steps over all samples.
    samples : sequence of Sample
        Those that are finished, for the steps over all samples.
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

    def path(self, text: str, sample: "Sample | None" = None) -> Path:
        """Return a path below the folder (of a sample, in that of the study); ``{id}`` stands for the sample's."""
        folder = self.folder if sample is None else self.folder / f"sub-{sample.id}"
        owner = sample or self.sample
        return folder / text.format(id=owner.id if owner is not None else "")

    def said(self, section: str, name: str) -> Any:
        """Return what the study file says of an option, `UNSET` if nothing."""
        return self.options.get(section, {}).get(name, UNSET)


@dataclass(frozen=True)
class Source:
    """Where a field comes from.

    Attributes
    ----------
    get : callable
        From the place to the value.
    steps : tuple of str
        The steps whose results it reads.
    key : str or None
        The key of the sample, if it is one.
    """

    get: Callable[[Place], Any]
    steps: tuple[str, ...] = ()
    key: str | None = None


def key(name: str) -> Source:
    """Return a key of the sample."""

    def get(place: Place) -> Any:
        value = getattr(place.sample, name, None)
        return UNSET if value is None else value

    return Source(get, key=name)


def value(fixed: Any) -> Source:
    """Return what a study always does."""
    return Source(lambda place: fixed)


def result(step: str, path: str, *, optional: bool = False, also: tuple[str, ...] = ()) -> Source:
    """Return a file or folder that another step has written, unless that is not run; optional, if it may be missing."""

    def get(place: Place) -> Any:
        found = place.path(path)
        return UNSET if step not in place.active or (optional and not found.exists()) else found

    return Source(get, (step, *also))


def either(first: Source, second: Source) -> Source:
    """Return the first of two sources that has a value."""

    def get(place: Place) -> Any:
        found = first.get(place)
        return second.get(place) if found is UNSET else found

    return Source(get, (*first.steps, *second.steps), first.key or second.key)


def preset(section: str, *, of_histology: bool = False) -> Source:
    """Return the preset that the section names, or else that of the sample."""

    def get(place: Place) -> Any:
        own = place.said(section, "preset")
        usual = PRESETS[place.preset].histology if of_histology else place.preset
        return usual if own is UNSET else own

    return Source(get)


def said(section: str, name: str) -> Source:
    """Return an option of the section of another step."""
    return Source(lambda place: place.said(section, name))


def fraction_map(step: str) -> Source:
    """Return the map of the area fraction as published, which shows the tissue; beside maps in 3D its name says so."""

    def get(place: Place) -> Any:
        which = "" if place.said("patches", "outline_kind") is UNSET else "_desc-paper"
        return result(step, f"histo/sub-{{id}}_param-F{which}_histomap.nii.gz").get(place)

    return Source(get, (step,))


def outlines() -> Source:
    """Say whether outlines of the cells are kept: where patches cut the cells along them, or the section says so."""
    return Source(lambda place: True if place.said("patches", "assign") == "clip" else UNSET)


def landmarks_for() -> Source:
    """Return what landmarks are for; in a study it is no mistake that some samples have none to check by."""

    def get(place: Place) -> Any:
        wanted = place.said("registration", "landmarks_for")
        return "start" if wanted == "check" and getattr(place.sample, "landmarks", None) is None else wanted

    return Source(get)


def good_transform(path: str) -> Source:
    """Return the transform; a registration that failed is an InputError, as pairs of voxels would say nothing."""

    def get(place: Place) -> Any:
        if "register" not in place.active or place.planned:
            return place.path(path) if "register" in place.active else UNSET
        from histomri.registration import Transform

        quality = Transform.load(place.path(path)).info.get("Registration", {}).get("QualityControl", {})
        if quality.get("verdict") == "failed":
            reasons = "; ".join(quality.get("reasons", ())) or "the outlines do not agree"
            raise InputError(
                f"the registration failed ({reasons})",
                hint='give landmarks, mask or mri_slice, or compare means with registration = { kind = "none" }',
            )
        return place.path(path)

    return Source(get, ("register",))


def fitted_maps() -> Source:
    """Return the fitted maps of cell size, fraction and density, of every model and strategy."""

    def get(place: Place) -> Any:
        if place.planned:
            return (place.path("mri/sub-{id}_param-vCS_dwimap.nii.gz"),)
        found = (place.folder / "mri").glob("*/*_param-*_dwimap.nii.gz")
        return tuple(
            sorted(path for path in found if path.name.split("_param-")[1].split("_")[0] in ("vCS", "F", "CD"))
        )

    return Source(get, ("fit",))


def results(step: str, path: str) -> Source:
    """Return the results of a step of every finished sample, in the order of the study."""
    return Source(lambda place: tuple(place.path(path, sample) for sample in place.samples), (step,))


def of_samples(fact: "Callable[[Place, Sample], Any]", *steps: str, prefix: str = "") -> Source:
    """Return a fact of every finished sample: sample to value, samples without one left out."""

    def get(place: Place) -> Any:
        facts = {f"{prefix}{sample.id}": fact(place, sample) for sample in place.samples}
        return {name: found for name, found in facts.items() if found is not None}

    return Source(get, steps)


def free_water(place: Place, sample: "Sample") -> float:
    """Return the diffusivity of free water where a sample was scanned, µm²/ms."""
    own = sample.options.get("fit", {}).get("preset") or sample.preset or place.preset
    return PRESETS[own].free_water_um2_ms


def measure_names() -> Source:
    """Return the names of the measurements that are correlated and compared beside those of histomri."""

    def get(place: Place) -> Any:
        by_hand = dict.fromkeys(name for sample in place.samples for name in sample.measures)
        return (*by_hand, "ADC_per_water")

    return Source(get)


def own_table(section: str, otherwise: Source) -> Source:
    """Return the table that a section names, or else the result of a step."""
    return either(Source(lambda place: place.said(section, "table")), otherwise)


def unless_own_table(section: str, source: Source) -> Source:
    """Return the result of a step, for a section without a table of its own, which is of other models."""
    return Source(
        lambda place: source.get(place) if place.said(section, "table") is UNSET else UNSET, source.steps, source.key
    )
