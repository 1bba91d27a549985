"""`python -m histomri_dev test` (or fuzz): what `make test` and `make fuzz` call, so that no make is needed."""

import subprocess
import sys
from pathlib import Path

EVERY_CORE = ("-n", "logical", "--dist", "loadfile")
ROOT = Path(__file__).resolve().parents[1]
CHECKS = (
    ("-m", "ruff", "check", "."),
    ("-m", "ruff", "format", "--check", "."),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
)


def run_tests(options: list[str]) -> int:
    """Run the checks of the source and the tests, on every core, up to the first that fails; return its exit code."""
    for check in (*CHECKS, ("-m", "pytest", *EVERY_CORE, *options)):
        if code := subprocess.run([sys.executable, *check], cwd=ROOT, check=False).returncode:
            return code
    return 0


def main() -> int:
    """Do what the first word says."""
    word, *rest = sys.argv[1:] or ["help"]
    if word == "test":
        return run_tests(rest)
    if word == "fuzz":
        from histomri_dev.fuzz.run import main as fuzz

        return fuzz(rest)
    print("python -m histomri_dev test [options of pytest]\npython -m histomri_dev fuzz [--help]")
    return 0 if word in ("help", "--help", "-h") else 2


if __name__ == "__main__":
    sys.exit(main())
