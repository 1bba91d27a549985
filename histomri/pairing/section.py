"""The histology of one sample for pairing: its maps as published or its maps in three dimensions, never both.

What is called vCS, F and density in a table of pairs depends on this choice, so it is recorded with the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.columns import STAT, SYST, column_of
from histomri.core.errors import InputError
from histomri.core.images import HISTOLOGY_MAPS, PAPER, Image, parse_map_name, read_sidecar, sidecar_path
from histomri.core.options import SizeName
from histomri.core.runs import require_one_run

Entities = dict[str, str]
_ASK = "run histomri patches with --outline-kind and --section-thickness-um, or pass --size paper"


@dataclass(frozen=True)
class Section:
    """The maps of a section that stand for vCS, F and density, and what they are."""

    maps: dict[str, Image]  # by name; with errors also vCS_se, vCS_syst and so on
    names: list[Entities]  # of their files
    size: SizeName
    meanings: dict[str, str]  # of vCS and F, where their names do not say it
    settings: dict[str, Any]  # parameters of the sidecars

    @property
    def has_fraction(self) -> bool:
        """Whether a fraction of cells was measured; one that was stated is no measurement."""
        return "F" in self.maps

    def about(self, sample: str) -> dict[str, Any]:
        """Return what is recorded with a table of pairs."""
        found: dict[str, Any] = {"size": {sample: self.size}}
        if (kind := self.settings.get("OutlineKind")) is not None:
            found["outline_kind"] = {sample: kind}
        if self.size == "volume" and (stated := (self.settings.get("Stereology") or {}).get("F_assumed")) is not None:
            found["F_assumed"] = {sample: stated}
        return found

    def columns(self) -> dict[str, dict[str, str]]:
        """Return the meaning of the columns of a table of pairs."""
        texts = dict(self.meanings)
        if not self.has_fraction:
            texts["F"] = "None: the fraction of cells was stated for vCS and not measured, so it is not compared"
        return {
            column_of(name, "histo"): {"Units": HISTOLOGY_MAPS[name][0], "Description": text}
            for name, text in texts.items()
        }

    def lack(self) -> tuple[str, ...]:
        """Return why the section has no cell size anywhere, as far as it is known; empty if it has one."""
        if "vCS" not in self.maps or np.isfinite(self.maps["vCS"].data).any():
            return ()
        results = (self.settings.get("Stereology") or {}).get("Results", {}) if self.size == "volume" else {}
        reasons = [results[name]["Reason"] for name in ("vCS", "vCSvol") if results.get(name, {}).get("Reason")]
        return (": ".join(("the histology has no cell size in any patch", *reasons[:1])),)

    def sentence(self) -> str:
        """Say which numbers of the section are paired."""
        if self.size == "paper":
            return "histology as published (size paper)"
        model_based = "size model-based from nuclei and a stated cell fraction, no F"
        return f"histology in 3D (size volume): {'vCS and F of cells' if self.has_fraction else model_based}"


def read_section(folder: Path, size: SizeName | None = None, *, errors: bool = False) -> Section:
    """Return the maps of a folder of `histomri patches` that are compared with MRI.

    Parameters
    ----------
    folder : Path
        With ``*_histomap.nii.gz`` of one sample.
    size : {"paper", "volume"}, optional
        The maps as published, or those of cells in three dimensions; by default what patches has settled.
    errors : bool
        Whether to read the errors too: standard ones as vCS_se and so on, those that all patches share as vCS_syst.

    Raises
    ------
    InputError
        If there are no maps, several of one name, or no cell size in three dimensions.
    """
    found = list(_files(folder, errors))
    if not found:
        raise InputError("holds no histology maps (*_histomap.nii.gz)", path=folder, hint="run histomri patches first")
    in_3d = [(path, words) for path, words in found if "desc" not in words]
    published = [(path, words) for path, words in found if words.get("desc") == PAPER]
    recorded = (read_sidecar(found[0][0]).get("Parameters") or {}).get("Size")
    chosen: SizeName = size or ("volume" if recorded == "volume" else "paper")
    if chosen == "volume" and not published:
        raise InputError("holds no maps of cells in 3D", path=folder, hint=_ASK)
    kept = in_3d
    if chosen == "paper" and published:
        both = ("nCells", "tissueFraction")
        kept = [*published, *((path, words) for path, words in in_3d if words["param"] in both)]
    paths: dict[str, Path] = {}
    for path, words in kept:
        name = f"{words['param']}_{words['stat']}" if "stat" in words else words["param"]
        if name in paths:
            raise InputError(f"holds several maps of {name}", path=folder, hint="one folder per sample")
        paths[name] = path
    if chosen == "volume":
        paths = _of_cells(paths, folder)
    known = [name for name in paths if name in ("vCS", "F")]
    settings = read_sidecar(kept[0][0]).get("Parameters") or {}
    meanings = {name: text for name in known if (text := _meaning(paths[name], name))}
    require_one_run(paths.values(), sidecar_path)
    maps = {name: Image.load(path) for name, path in paths.items()}
    return Section(maps, [words for _, words in kept], chosen, meanings, settings)


def _of_cells(paths: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Return the maps in 3D with the cell size under the name vCS, and one density, that of cells if it is known."""
    found = dict(paths)
    if "vCS" not in found:
        if "vCSvol" not in found:
            problem = "holds no size of cells in 3D: it needs the share of the tissue's volume that is cells"
            hint = "run histomri patches with --cell-fraction, or pass --size paper"
            raise InputError(problem, path=folder, hint=hint)
        found |= {f"vCS{end}": found.pop(f"vCSvol{end}") for end in ("", STAT, SYST) if f"vCSvol{end}" in found}
    if "cellNV" in found:
        found = {name: path for name, path in found.items() if not name.startswith("nucleiNV")}
    return found


def _meaning(path: Path, name: str) -> str | None:
    text = read_sidecar(path).get("Description")
    return None if text in (None, HISTOLOGY_MAPS[name][1]) else str(text)


def _files(folder: Path, errors: bool) -> Iterator[tuple[Path, Entities]]:
    """Yield the maps of a folder, less those uncorrected or of one class and, unless asked for, the errors."""
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, hint="check the spelling")
    for path in sorted(folder.glob("*_histomap.nii*")):
        words = parse_map_name(path.name)
        if words.get("suffix") != "histomap" or "label" in words or words.get("desc", PAPER) != PAPER:
            continue
        if "stat" not in words or (errors and f"_{words['stat']}" in (STAT, SYST)):
            yield path, words
