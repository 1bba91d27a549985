"""Do the tests notice small errors? Apply each of mutants.toml to a copy of the tree and run the tests of its room.

python tests/mutants.py [--only TEXT] [--list]    (or `make mutants`; an hour on two cores)

Prints caught, survived, or "does not apply" where the text has changed. Tests that fail without any mutant are left
out first, so that they catch nothing. Exit code 1 if a mutant survived or did not apply.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("histomri", "cli", "tests", "qupath_scripts", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")
SECONDS = 1200


@dataclass(frozen=True)
class Mutant:
    """One small error: the text `find`, once in `files`, becomes `replace`."""

    name: str
    room: str
    files: str
    find: str
    replace: str
    regex: bool = False
    tests: tuple[str, ...] = ()

    def apply(self, tree: Path) -> str | None:
        """Change the tree; return why that is not possible."""
        pattern = re.compile(self.find if self.regex else re.escape(self.find))
        replace = self.replace if self.regex else self.replace.replace("\\", r"\\")
        places = [(path, len(pattern.findall(path.read_text(encoding="utf-8")))) for path in tree.glob(self.files)]
        found = [(path, count) for path, count in places if count]
        if sum(count for _, count in found) != 1:
            return f"the text occurs {sum(count for _, count in found)} times in {self.files}"
        path = found[0][0]
        path.write_text(pattern.sub(replace, path.read_text(encoding="utf-8")), encoding="utf-8")
        return None

    def where(self, tree: Path) -> list[str]:
        """Return the tests to run, of those that are there."""
        return [test for test in self.tests or (f"tests/{self.room}",) if (tree / test).exists()]


def copy_tree(target: Path) -> Path:
    """Copy what the tests need; compiled files stay behind, so that no kernel of another version is used."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    (target / "histomri_cli").symlink_to("cli")
    return target


def run_tests(tree: Path, tests: list[str], options: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run tests on the program in the tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "CI": "", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-r", "fE", "-p", "no:cacheprovider", *options, *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)


def failing(tests: list[str]) -> list[str]:
    """Return the tests that fail, and the files that cannot be collected, without any mutant."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        done = run_tests(tree, tests, ["--continue-on-collection-errors"])
        where = subprocess.run(
            [sys.executable, "-c", "import histomri; print(histomri.__file__)"],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert where.startswith(str(tree)), f"the tests would run on {where}, not on the copy"
    return re.findall(r"^(?:FAILED|ERROR) ([^\s]+(?: [^-]\S*)*?)(?: - |$)", done.stdout, re.M)


def judge(mutant: Mutant, broken: dict[str, list[str]]) -> str:
    """Return what became of a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        if (reason := mutant.apply(tree)) is not None:
            return f"does not apply: {reason}"
        tests = mutant.where(tree)
        key = " ".join(tests)
        if key not in broken:
            broken[key] = failing(tests)
            for name in broken[key]:
                print(f"    (fails anyway, left out: {name})", flush=True)
        files = [f"--ignore={name}" for name in broken[key] if "::" not in name]
        options = ["-x", *files, *(f"--deselect={name}" for name in broken[key] if "::" in name)]
        try:
            done = run_tests(tree, tests, options)
        except subprocess.TimeoutExpired:
            return "caught by not ending"
    if done.returncode == 0:
        return "SURVIVED"
    by = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return f"caught by {by[1]}" if by else f"caught, pytest ended with {done.returncode}: {done.stdout[-300:]!r}"


def main() -> int:
    """Judge the mutants that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="a room, or text in the name; may be repeated")
    parser.add_argument("--list", action="store_true", help="say which mutants apply, and run nothing")
    asked = parser.parse_args()
    mutants = [
        Mutant(**{**entry, "tests": tuple(entry.get("tests", ()))})
        for entry in tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
    ]
    chosen = [m for m in mutants if not asked.only or any(text == m.room or text in m.name for text in asked.only)]
    counts = {"caught": 0, "SURVIVED": 0, "does not apply": 0}
    broken: dict[str, list[str]] = {}
    for mutant in chosen:
        start = time.monotonic()
        if asked.list:
            with tempfile.TemporaryDirectory() as folder:
                outcome = (
                    f"does not apply: {reason}" if (reason := mutant.apply(copy_tree(Path(folder)))) else "applies"
                )
        else:
            outcome = judge(mutant, broken)
        counts[next((kind for kind in counts if outcome.startswith(kind)), "caught")] += 1
        print(f"{mutant.room:13} {mutant.name}: {outcome} [{time.monotonic() - start:.0f} s]", flush=True)
    if not asked.list:
        print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return int(counts["SURVIVED"] + counts["does not apply"] > 0)


if __name__ == "__main__":
    sys.exit(main())
