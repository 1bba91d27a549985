"""What is wrong with a study although each of its parts is right: ids, files, plan, prediction."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from histomri.core.options import paths_in
from histomri.study.graph import PER_SAMPLE
from histomri.study.plan import Plan
from histomri.study.sample import Sample
from histomri.study.sources import Place
from histomri.study.step import build


class Declared(Protocol):
    """What is looked at of a study: that of `study_file`, which looks here before it is one."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples."""

    @property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """The sections of the steps over all samples."""

    @property
    def plan(self) -> Plan | None:
        """The analysis plan."""

    @property
    def fits(self) -> set[tuple[str, str]]:
        """Model and strategy of every fit."""

    def place(self, sample: Sample) -> Place:
        """Return the place where the steps of a sample run."""


def contradictions(study: Declared) -> Iterator[str]:
    """Yield where the parts of a study that are right by themselves contradict each other or the files there are."""
    yield from _ambiguous([sample.id for sample in study.samples])
    for sample in study.samples:
        for key, path in sample.files():
            beside = f"{path}.bval"  # a protocol may be named by what its files have in common
            if not os.path.isfile(path) and not (key == "protocol" and os.path.isfile(beside)):
                yield f"sample {sample.id}: {key}: {_no_file(path)}"
    if any(sample.patient for sample in study.samples):
        for sample in study.samples:
            if "patient" in sample.measures:
                yield f"sample {sample.id}: measures.patient: other samples have a key patient; write it as they do"
    yield from _mixed_sizes(study)
    if study.plan is not None:
        yield from study.plan.contradictions(study.fits, [sample.id for sample in study.samples])
    if "prediction" in study.options:
        yield from _unpredictable(study, study.options["prediction"])


def _mixed_sizes(study: Declared) -> Iterator[str]:
    """Yield that histology as published and in 3D would stand in one table: they differ by tens of per cent."""
    step = next(step for step in PER_SAMPLE if step.name == "patches")
    sizes: dict[Any, list[str]] = {}
    for sample in study.samples:
        sizes.setdefault(getattr(build(step, study.place(sample)), "settled_size", None), []).append(sample.id)
    if "paper" in sizes and "volume" in sizes:
        yield (
            f"patches.size: the histology of {', '.join(sizes['volume'])} would be in 3D and that of "
            f'{", ".join(sizes["paper"])} as published, which cannot be compared; say size = "paper", or '
            "outline_kind and section_thickness_um (N and R: cell_fraction too) for all"
        )


def _ambiguous(ids: list[str]) -> Iterator[str]:
    times = Counter(ids)
    for item, number in sorted(times.items()):
        if number > 1:
            yield f"the id {item!r} stands {number} times; every sample needs its own"
    for folded, number in Counter(item.casefold() for item in times).items():
        if number > 1:
            alike = [item for item in times if item.casefold() == folded]
            yield f"the ids {' and '.join(alike)} differ in capitals only, which the folders of some systems cannot"


def _no_file(path: Path) -> str:
    """Say why a path is not that of a file."""
    if path == Path():
        return "is empty; leave the key out, or name a file"
    if os.path.isdir(path):
        return f"is a folder, and a file is needed: {path}"
    if path.name.replace(".", "").isdigit():
        return f"no such file: {path}; write a number without quotation marks"
    if not str(path).isprintable():
        return f"no such file: {str(path)!r}; write paths with /, as \\ has a meaning of its own in quotation marks"
    return f"no such file: {path}" + ("; write paths with /, on every system" if "\\" in str(path) else "")


def _unpredictable(study: Declared, options: Mapping[str, Any]) -> Iterator[str]:
    target = options["target"]
    for path in paths_in(options.get("table")):
        if not path.is_file():
            yield f"prediction: table: {_no_file(path)}"
        return
    given = sorted({name for sample in study.samples for name in sample.measures})
    if target not in given:
        there = f"they have {', '.join(given)}" if given else "they have none"
        yield (
            f"prediction: target: {target!r} is no measurement of the samples (measures); {there}. "
            "Give the table that holds it with table"
        )
    yield from _ungrouped(study, options)


def _ungrouped(study: Declared, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the samples of which it is not known whether they are from the same patient as others."""
    asked, target = options.get("group_by"), options["target"]
    name = asked or "patient"
    labels = {sample.id: sample.label(name) for sample in study.samples}
    if not any(labels.values()):
        if asked is not None:
            yield f"prediction: group_by: no sample has a {name!r}; give the samples theirs, or leave group_by out"
        return
    for sample in study.samples:
        if target in sample.measures and not labels[sample.id]:
            yield (
                f"sample {sample.id}: {name}: is missing; samples with the same one stay together in the prediction "
                f"of {target}. With group_by = 'sample' under [prediction] each stands alone"
            )
