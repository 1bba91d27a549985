"""What the documentation tells people to type works."""

import re
from pathlib import Path

import numpy as np
import pytest

from histomri.fitting import predict
from histomri.mri import Acquisition
from histomri_cli.app import app

ROOT = Path(__file__).resolve().parents[1]


def commands_of(path: Path) -> list[tuple[str, set[str]]]:
    """Return the commands in the shell blocks of a page, each with the options it is given."""
    found = []
    for block in re.findall(r"```(?:sh|bash|shell|console)?\n(.*?)```", path.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*\$?\s*histomri ([a-z][\w-]*)(.*)", line.split("#")[0])
            if match:
                found.append((match[1], set(re.findall(r"(?<!\S)--?[a-z][\w-]*", match[2]))))
    return found


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


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_commands_and_options_exist(page):
    import typer

    known = {
        name: {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, command in typer.main.get_command(app).commands.items()
    }
    for command, options in commands_of(page):
        assert command in known, f"{page.name}: there is no command {command}"
        assert options <= known[command], f"{page.name}: histomri {command} has no {options - known[command]}"


def test_links_between_pages_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
