"""The graph of a study: what it declares is there, and nothing that a step sees can be left out of its key."""

import re
from pathlib import Path
from typing import Any

import pytest

from histomri.core.options import Options, alternatives
from histomri.study import Sample, Study
from histomri.study.graph import COMMANDS, PER_SAMPLE, PER_STUDY
from histomri.study.records import Ledger
from histomri.study.show import graph_mermaid, graph_text
from histomri.study.step import build

STEPS = (*PER_SAMPLE, *PER_STUDY)
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)


@every_step
def test_what_a_step_declares_is_there(step):
    fields = step.command.options_class.model_fields
    assert set(step.reads) <= set(fields), "a source for a field that the command does not have"
    assert callable(step.command.run)
    earlier = [each.name for each in STEPS[: STEPS.index(step)]]
    assert set(step.after) <= set(earlier), "a step reads only what ran before it"
    for name in step.command.options_class.names("input"):
        source = step.source(name)
        if source.key and step in PER_SAMPLE and fields[name].is_required():
            assert source.key in Sample.model_fields, f"no sample has {source.key}"


def test_sections_and_places_are_their_own():
    sections = [step.section for step in STEPS if step.section]
    assert len(sections) == len(set(sections))
    assert len({step.name for step in STEPS}) == len(STEPS)


@pytest.fixture
def study(tmp_path):
    for name in ("c.tsv", "d.nii.gz", "p.txt", "m.nii.gz", "l.csv"):
        (tmp_path / name).write_text(name)
    sample = Sample(
        id="m1", cells=[tmp_path / "c.tsv"], dwi=tmp_path / "d.nii.gz", protocol=tmp_path / "p.txt",
        mask=tmp_path / "m.nii.gz", landmarks=tmp_path / "l.csv", sigma=3.0, group="a", scanner="b", patient="c",
        options={name: {} for name in ("preprocess", "t2ivim", "qupath_grid")},
    )  # fmt: skip
    return Study("s", "mouse-exvivo", (sample,))


def other(field: Any, value: Any) -> Any:
    """Return a value that is not the same, of a kind that the field may have."""
    if value is None and Path in alternatives(field.annotation):
        return Path("another")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, Path):
        return value.with_name("another")
    if isinstance(value, tuple):
        return (*value, value[0]) if value else ("another",)
    return "another"


@pytest.mark.parametrize("step", PER_SAMPLE, ids=lambda step: step.name)
def test_nothing_that_a_step_sees_can_be_forgotten(step, study, tmp_path):
    """Whatever field of its options changes, the key of the step changes: the step sees nothing else."""
    place = study.place(study.samples[0], tmp_path)
    if step.name not in place.active:
        pytest.fail(f"{step.name} is not part of this study") if not step.asked and step.name != "ki67" else None
        return
    options = build(step, place)
    ledger = Ledger(tmp_path)
    key = ledger.key(step.name, step.command.module, options)
    for name in options.names("input") + options.names("option"):
        changed = options.model_copy(update={name: other(type(options).model_fields[name], getattr(options, name))})
        assert ledger.key(step.name, step.command.module, changed) != key, name


def named_in(value: Any) -> set[Path]:
    """Return every path in a value, however deep."""
    if isinstance(value, Path):
        return {value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return {path for part in parts for path in named_in(part)}


@pytest.mark.parametrize("step", PER_SAMPLE, ids=lambda step: step.name)
def test_no_file_of_a_step_is_forgotten(step, study, tmp_path):
    """Also those in lists and tables of its options; a folder may stand for its files."""
    place = study.place(study.samples[0], tmp_path)
    if step.name not in place.active:
        return
    options = build(step, place)
    named = {
        path for name in options.names("input") + options.names("option") for path in named_in(getattr(options, name))
    }
    assert named <= set(options.reads())


@pytest.mark.parametrize("step", PER_SAMPLE, ids=lambda step: step.name)
def test_every_file_that_a_step_names_counts_by_its_content(step, study, tmp_path):
    place = study.place(study.samples[0], tmp_path)
    if step.name not in place.active:
        return
    options, ledger = build(step, place), Ledger(tmp_path)
    key = ledger.key(step.name, step.command.module, options)
    for path in {path for path in options.reads() if path.is_file()}:
        before = path.read_bytes()
        path.write_bytes(before + b"more")
        assert ledger.key(step.name, step.command.module, options) != key, path.name
        path.write_bytes(before)
    assert ledger.key(step.name, step.command.module, options) == key


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.panel], ids=lambda command: command.name)
def test_every_field_says_what_it_is(command):
    options = command.options_class
    assert issubclass(options, Options) and re.search(r"Example: histomri ", options.__doc__), "no example in its help"
    for name, field in options.model_fields.items():
        assert field.description and field.description.strip().endswith("."), f"{name} has no sentence of help"
        assert alternatives(field.annotation)


def test_the_graph_is_printed(study):
    text = graph_text(study)
    assert re.search(r"^  fit +<- .*protocol.*\[preprocess\].*  -> mri$", text, re.M), text
    assert "over all samples" in text
    drawn = graph_mermaid(study)
    assert drawn.startswith("flowchart LR\n") and "  cells_1 --> patches_1" in drawn and "  pair_1 --> pairs_2" in drawn
