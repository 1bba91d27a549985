"""Whatever stands in a study file, it is read or refused in words: never half, never with a traceback."""

import pytest

from histomri.core.errors import InputError, StudyError
from histomri.study import Study
from histomri.study.graph import PER_SAMPLE, PER_STUDY
from histomri.study.sample import Sample
from histomri.study.step import build

HEAD = '[study]\nname = "x"\npreset = "mouse-exvivo"\n'
SAMPLE = '[[samples]]\nid = "m1"\ncells = "c.tsv"\ndwi = "d.nii.gz"\nprotocol = "mouse-exvivo"\n'


@pytest.fixture
def load(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("c.tsv", "d.nii.gz"):
        (tmp_path / name).write_text("x")

    def read(text: str | bytes) -> Study:
        path = tmp_path / "study.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Study.load(path)

    return read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends_of_other_systems_are_read(load, encoding, end):
    text = (HEAD.replace('"x"', '"Mäuse"') + SAMPLE).replace("\n", end).encode(encoding)
    assert load(text).name == "Mäuse"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"study\.toml: is empty; docs/study\.md"),
        ("\n# nothing\n", r"there are no samples; add a \[\[samples\]\] table"),
        (f"samples = []\n{HEAD}", "samples: must have at least 1 item"),
        (f"{HEAD}[samples.m1]\ncells = 'c.tsv'\n", r"samples must be tables: write \[\[samples\]\] above each"),
        ((HEAD + SAMPLE).encode("utf-16"), "is not a UTF-8 text file; save it as UTF-8"),
        (HEAD + "x = " + "[" * 5000 + "]" * 5000, "is nested too deeply to be read"),
        (SAMPLE, r"study\.name: is missing\n  study\.preset: is missing$"),
        (f"[[study]]\nname = 'x'\n{SAMPLE}", r"study must be one table: write \[study\]"),
        # What was no table used to be ignored: the study ran with the defaults.
        (f"patches = 'whole'\n{HEAD}{SAMPLE}", r"patches must be one table: write \[patches\]"),
        (f"{HEAD}[[patches]]\nmin_cells = 5\n{SAMPLE}", r"patches must be one table: write \[patches\]"),
        (f"{HEAD}samples = 3\n{SAMPLE}", r"study\.samples: unknown key; known are name, preset"),
        (f"{HEAD}fit = {{ dki = false }}\n{SAMPLE}", r"study\.fit: unknown key; it is a section of its own, \[fit\]"),
        (f"{HEAD}[prediction]\ntarget = 'x'\ntable = 'folder'\n{SAMPLE}", "table: is a folder, and a file is needed"),
        (HEAD + SAMPLE + SAMPLE.replace("m1", "M1"), "the ids m1 and M1 differ in capitals only"),
    ],
)
def test_files_of_another_shape_are_refused(load, content, message):
    with pytest.raises(StudyError, match=message):
        load(content)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("DWI = 'd.nii.gz'", "DWI: unknown key; did you mean 'dwi'"),
        ("mask = ''", "mask: is empty; leave the key out, or name a file"),
        ("mask = 'folder'", "mask: is a folder, and a file is needed: .*folder"),
        ("mask = 'gone.nii'\nroi = 'gone.geojson'", r"mask: no such file: .*\n  sample m1: roi: no such file: "),
        (r"mask = 'C:\data\m.nii'", r"mask: no such file: .*C:\\data\\m\.nii; write paths with /, on every system"),
        (r'mask = "C:\data\m.nii"', r"not valid TOML: .*; write paths with /, on every system"),
        (r'mask = "data\test.nii"', r"mask: no such file: '.*data\\\\test.nii'|no such file: '.*data\\test\.nii'"),
        (f"mask = '{'m' * 5000}'", "mask: no such file"),
        (r'mask = "a\u0000b"', "mask: no such file"),
        ("mask = 3", "mask: must be a path, in quotation marks"),
        ("sigma = '0.02'", r"sigma: no such file: .*0\.02; write a number without quotation marks"),
        (
            "sigma = true",
            "sigma: must be a number, without quotation marks, or must be 'estimate'.*, or must be a path",
        ),
        ("sigma = inf", "sigma: must be a finite number"),
        ("sigma = -1.0", "sigma: must be greater than 0$"),
        ("mri_slice = true", "mri_slice: must be a whole number"),
        ("measures = { Ki67 = true }", r"measures\.Ki67: must be a number"),
        ("measures = { Ki67 = nan }", r"measures\.Ki67: must be a finite number; leave out what is not known"),
        ("measures = [1]", r"measures: must be a table, such as \{ Ki67_fraction = 0\.12 \}$"),
        ("group = 2024-01-01", "group: must be text, in quotation marks"),
        ("fit = 3", r"fit: must be a table, with its keys below a heading or in \{ \}$"),
        ("fit = { dki = 'no' }", r"fit\.dki: must be true or false"),
        ("fit = { models = 'diff-in' }", r"fit\.models: must be a list, in \[ \]$"),
        ("cell_options = { mpp = [0.2] }", r"cell_options\.mpp: .*too few values"),
        ("cell_options = { mpp = [0.2, -1] }", r"cell_options\.mpp: must be greater than 0$"),
    ],
)
def test_wrong_values_are_named_in_the_words_of_the_file(load, lines, message):
    with pytest.raises(StudyError, match=f"sample m1: {message}|study.toml: is {message}"):
        load(f"{HEAD}{SAMPLE}{lines}\n")


def test_an_id_is_no_longer_than_names_of_files_may_be(load):
    assert load(HEAD + SAMPLE.replace("m1", "m" * 100)).samples[0].id
    with pytest.raises(StudyError, match="id: names files, so it may be 100 letters long at most"):
        load(HEAD + SAMPLE.replace("m1", "m" * 101))


HOSTILE = (
    "''", "' '", "'{}%s'", "'../..'", '"\\u0000"', "0", "-1", "1e400", "nan", "true", "2024-01-01", "[]", "[[]]",
    "['']", "[1, 'a']", "{}", "{ '' = 1 }", "{ a = { b = [] } }", "[{}]", "99999999999999999999999999",
)  # fmt: skip
TABLES = {"study": ("name", "preset"), "samples": [key for key in Sample.model_fields if key != "options"]} | {
    step.section: step.keys for step in (*PER_SAMPLE, *PER_STUDY) if step.keys
}


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, keys in TABLES.items() for key in keys])
def test_no_value_of_any_key_is_more_than_a_mistake(load, tmp_path, table, key):
    for value in HOSTILE:
        content = {
            "study": {"name": "'x'", "preset": "'mouse-exvivo'"},
            "samples": {"id": "'m1'", "cells": "'c.tsv'", "dwi": "'d.nii.gz'", "protocol": "'mouse-exvivo'"},
        }
        content.setdefault(table, {})[key] = value
        headings = {name: "[[samples]]" if name == "samples" else f"[{name}]" for name in content}
        text = "".join(
            f"{headings[name]}\n" + "".join(f"{each} = {said}\n" for each, said in lines.items())
            for name, lines in content.items()
        )
        try:
            study = load(text)
        except InputError as error:
            assert "study.toml" in str(error) and "<class" not in str(error), text
        else:
            again = Study.load(study.save(tmp_path / "resolved.json"))
            assert [again.resolved(sample, str) for sample in again.samples] == [
                study.resolved(sample, str) for sample in study.samples
            ], text


def test_the_kind_and_the_thickness_of_each_sample_count(load):
    """Sections of one study may be outlined and cut in different ways; as published and in 3D they are never mixed."""
    shared = "[patches]\nsection_thickness_um = 4\noutline_kind = 'R'\ncell_fraction = 0.7\n"
    own = "[samples.patches]\noutline_kind = 'M'\nsection_thickness_um = 3\n"
    second = SAMPLE.replace("m1", "m2")
    study = load(HEAD + shared + SAMPLE + second + own)
    step = next(step for step in PER_SAMPLE if step.name == "patches")
    options = [build(step, study.place(sample)) for sample in study.samples]
    assert [(one.outline_kind, one.section_thickness_um) for one in options] == [("R", 4), ("M", 3)]
    assert [one.settled_size for one in options] == ["volume", "volume"]
    alone = own.replace("'M'", "'R'")  # nuclei without a cell fraction have no size in 3D
    with pytest.raises(StudyError, match="histology of m1 would be in 3D and that of m2 as published"):
        load(
            HEAD
            + shared.replace("cell_fraction = 0.7\n", "")
            + SAMPLE
            + "patches.cell_fraction = 0.7\n"
            + second
            + alone
        )
    load(HEAD + "[patches]\nsize = 'paper'\n" + SAMPLE + second + own)
