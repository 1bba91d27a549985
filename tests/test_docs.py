"""What the documentation asks people to type works."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer

from histomri.core.options import flag_of, shown
from histomri.fitting import predict
from histomri.mri import Acquisition
from histomri.study.graph import COMMANDS
from histomri_cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
REMOVED = {"--drive"}  # which the changelog and the docs name as gone
OTHERS = {"--cells", "--all", "--starts", "--args", "-p", "-s", "-m", "-q"}  # of benchmarks, QuPath, python and pytest


def commands() -> dict[str, set[str]]:
    """Return the options of every command, those of a group by their full name."""
    found = {}
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for sub, one in getattr(command, "commands", {"": command}).items():
            options = {option for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)}
            found[f"{name} {sub}".strip()] = options | {"--help"}
    return found


def typed_in(path: Path) -> list[tuple[str, set[str]]]:
    """Return the commands in the code of a page, each with the options it is given."""
    text = path.read_text(encoding="utf-8")
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
    blocks = [block for language, block in fence.findall(text) if language in ("", "sh", "bash", "shell", "console")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(histomri [^`\n]+)`", fence.sub("", text))
    found = []
    for line in lines:
        match = re.match(r"\s*\$?\s*histomri ((?:simulate )?[a-z][\w-]*)(.*)", line.split("#")[0])
        if match:
            found.append((match[1], set(re.findall(r"(?<![\w.-])--?[a-z][\w-]*", match[2]))))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_options_exist(page):
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    for command, options in typed_in(page):
        if command not in groups:
            assert command in known, f"{page.name}: there is no command {command}"
            assert options <= known[command], f"{page.name}: histomri {command} has no {options - known[command]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_options_that_are_named_alone_exist_in_some_command(page):
    known = set().union(*commands().values()) | REMOVED | OTHERS | {"--version"}
    named = set(re.findall(r"`(--[a-z][\w-]*)", page.read_text(encoding="utf-8")))
    assert named <= known, f"{page.name} names {named - known}"


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.panel], ids=lambda each: each.name)
def test_examples_in_the_help_have_options_of_their_command(command):
    options = command.options_class
    own = {flag_of(name, field) for name, field in options.model_fields.items()}
    own |= {switch for field in options.model_fields.values() for switch in shown(field).switches}
    own |= {f"--no-{name.replace('_', '-')}" for name in options.model_fields} | {"-o", "--out", "-q", "--quiet"}
    examples = re.findall(rf"^ *Example: histomri {command.name} (.*)$", options.__doc__ or "", re.M)
    assert examples, f"{command.name} has no example"
    for example in examples:
        typed = set(re.findall(r"(?<!\S)--?[a-z][\w-]*", example.split("&&")[0]))
        assert typed <= own, f"the example of {command.name} has {typed - own}"


def test_the_study_file_of_the_docs_has_keys_of_the_options_classes():
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "study.md").read_text(encoding="utf-8"), re.S)
    study = tomllib.loads(re.sub(r"^# (\w+ = .*)$", r"\1", block, flags=re.M))
    sections = {"cell_options": "cells", "patches": "patches", "fit": "fit", "registration": "register"}
    declared = {command.name: command for command in COMMANDS}
    for section, name in (sections | {"prediction": "predict"}).items():
        if name in declared:
            keys = set(declared[name].options_class.model_fields)
            assert set(study[section]) <= keys | {"preset", "table"}, f"[{section}] has other keys than histomri {name}"


def test_python_example_of_the_readme(tmp_path, monkeypatch, rng):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    x, y = rng.uniform(0, 4000, (2, 500))
    rows = "".join(
        f"a.svs\tCell\t{a:.1f}\t{b:.1f}\t{area:.2f}\n" for a, b, area in zip(x, y, rng.uniform(80, 300, 500))
    )
    (tmp_path / "detections.tsv").write_text("Image\tObject type\tCentroid X µm\tCentroid Y µm\tCell: Area\n" + rows)
    monkeypatch.chdir(tmp_path)
    truth = {"fI": np.full(5, 0.7), "D0I": np.full(5, 1.5), "L": np.full(5, 18.0)}
    signals = predict("diff-in", truth, Acquisition.preset("mouse-exvivo"))
    space: dict[str, object] = {"signals": signals}
    exec(code, space)
    # Without noise the fit must give back the size that went in; the tables of the engine are good to 1e-6 in signal.
    np.testing.assert_allclose(space["result"].maps["vCS"], 18.0, rtol=1e-2)
    assert space["maps"]["vCS"].shape == space["grid"].shape


def test_the_whole_method_from_python(tmp_path, monkeypatch):
    """The script of docs/python.md: three small livers from files to a ranking."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.S)[0]
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    exec(code, space)
    ranking = space["ranking"]
    assert {row["model"] for row in ranking} == {"diff-in", "diff-in-ex"} and all(row["n"] == 3 for row in ranking)
    # Three livers of realistic tissue: their sizes are far apart, but the F of QuPath's rims is not that of cells.
    assert ranking[0]["TCS"] >= ranking[1]["TCS"] > 1.0
    assert space["found"].verdict in ("good", "check") and len(space["tables"]) == 3


def test_every_term_of_the_glossary_is_there_once():
    rows = re.findall(r"^\| ([^|]+) \| .+ \|$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)[1:]
    assert len(rows) == len(set(rows)) and {"vCS", "F", "CD", "TCS", "HFC", "patch", "case"} <= set(rows)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
