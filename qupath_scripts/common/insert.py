"""Copy detection.groovy into every detect script, below the line that begins with `// --- ... SHARED`."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "SHARED: the same in all detect scripts"


def with_shared(script: str, shared: str) -> str:
    """Return a script with the shared part in place of what stood below the mark."""
    at = script.index(MARK)
    return script[: script.index("\n", at) + 1] + "\n" + shared


if __name__ == "__main__":
    shared_part = (HERE / "detection.groovy").read_text(encoding="utf-8")
    for path in sorted(HERE.parent.glob("detect_cells_*.groovy")):
        path.write_text(with_shared(path.read_text(encoding="utf-8"), shared_part), encoding="utf-8")
        print(path.name)
