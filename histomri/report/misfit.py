"""What fits have left about how well they describe the signals of a sample."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import read_json
from histomri.mri import SpoiltVolume

_NEEDED = ("slice", "volume", "b_smm2", "median_z", "spoilt")


@dataclass(frozen=True)
class Described:
    """What `histomri fit` found of one fit: its record, and the medians by volume and slice."""

    record: dict[str, Any]
    table: pd.DataFrame

    @property
    def key(self) -> tuple[str, str]:
        """Model and strategy."""
        return str(self.record.get("Model")), str(self.record.get("Strategy"))

    @property
    def spoilt(self) -> list[SpoiltVolume]:
        """The volumes found spoilt."""
        return [SpoiltVolume(**each) for each in self.record.get("SpoiltVolumes", ())]


def read_misfit(folder: Path) -> list[Described]:
    """Return what there is in the folder of fitted maps of a sample and its subfolders."""
    found = []
    for path in sorted([*folder.glob("*_misfit.json"), *folder.glob("*/*_misfit.json")]):
        record, table = read_json(path, "record of misfit"), pd.read_csv(path.with_suffix(".csv"))
        if not isinstance(record, dict) or not set(_NEEDED) <= set(table):
            raise InputError("is no record of misfit", path=path, hint="run the study again")
        found.append(Described(record, table))
    return found
