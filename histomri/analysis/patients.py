"""Which rows of a table are from one patient: they are no independent cases, in any command."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.columns import PATIENT
from histomri.core.tables import Table

Measured = TypeVar("Measured", bound=Table)
FEWEST_UNITS = 6  # patients with several rows from which there are intervals and tests
FEW_UNITS = 8  # from which they were checked by simulation
# What a column of patients may be called in somebody else's table.
_ALSO = (
    "patients",
    "patientid",
    "subject",
    "subjectid",
    "subj",
    "participant",
    "animal",
    "animalid",
    "mouseid",
    "donor",
)


def unit_codes(table: pd.DataFrame, samples: Sequence[Any], patient: str | None) -> tuple[IntArray, list[str]]:
    """Return the number of the unit of each sample, in the order in which they come, and the names of the units.

    A unit is a patient, or a sample without one. Where no patient has several samples, every sample is a unit.
    """
    if patient is None or patient not in table:
        return np.arange(len(samples)), [str(name) for name in samples]
    of_sample = table.groupby("sample", sort=False, observed=True)[patient].first().reindex(list(samples))
    codes, names = codes_of(of_sample)
    if not repeated(codes):
        return np.arange(len(samples)), [str(name) for name in samples]
    alone = {int(code): str(sample) for code, sample in zip(codes, samples)}
    return codes, [name if name else alone[k] for k, name in enumerate(names)]


def codes_of(labels: pd.Series) -> tuple[IntArray, list[str]]:
    """Return the number of the patient of each row (N,), and their names; a row without one is a patient of its own."""
    text = labels.fillna("").astype(str).str.strip()
    own = np.where(text == "", [f"\0{place}" for place in range(len(text))], text)
    codes, names = pd.factorize(own)
    return np.asarray(codes), ["" if str(name).startswith("\0") else str(name) for name in names]


def repeated(codes: IntArray) -> bool:
    """Tell whether a patient has several rows."""
    return len(codes) > 0 and int(codes.max()) + 1 < len(codes)


def with_patients(table: Measured, asked: str | None) -> Measured:
    """Return a table whose column `patient` is the one asked for, with what to say of it among its notes.

    ``sample`` stands for none: every sample is then independent.
    """
    if asked is not None and asked != PATIENT:
        table.require(asked)
        frame = table.frame.drop(columns=PATIENT, errors="ignore")
        table = replace(table, frame=frame if asked == "sample" else frame.rename(columns={asked: PATIENT}))
    elif asked is not None:
        table.require(asked)
    texts = patient_warnings(table.frame, PATIENT if PATIENT in table else None, hint=asked is None)
    return replace(table, notes=(*table.notes, *texts))


def jackknife_t(estimate: float, without_one: FloatArray, confidence: float) -> tuple[float, float, float]:
    """Return interval and two-sided p (against 0) of an estimate from those without each unit, by Student's t.

    NaN of fewer than `FEWEST_UNITS` units, or if one of the estimates is not defined.
    """
    n = without_one.size
    if n < FEWEST_UNITS or not np.isfinite(without_one).all():
        return math.nan, math.nan, math.nan
    se = math.sqrt((n - 1) / n * float(((without_one - without_one.mean()) ** 2).sum()))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * stdtr(n - 1, -abs(estimate) / se)) if se > 0 else math.nan
    return estimate - half, estimate + half, p


def without_each(codes: IntArray, statistic: Callable[[BoolArray], ArrayLike]) -> FloatArray:
    """Return a statistic of the rows that are kept when each unit is left out in turn, (units, ..)."""
    return np.array([statistic(codes != unit) for unit in range(int(codes.max()) + 1)], dtype=float)


def patients_of(table: Table) -> pd.Series | None:
    """Return the patient of each row of a table, a row without one being a patient of its own; None without patients.

    Where no patient has several rows there is nothing to allow for, and it is None too.
    """
    if PATIENT not in table:
        return None
    codes, _ = codes_of(table.text(PATIENT))
    return pd.Series(codes, index=table.frame.index) if repeated(codes) else None


def patient_warnings(frame: pd.DataFrame, patient: str | None, *, hint: bool = True) -> list[str]:
    """Say which patients come several times, how many samples have none, and which column may be one of patients."""
    has_samples = "sample" in frame
    texts: list[str] = []
    if patient is None:
        for name in frame.columns if hint else ():
            plain = "".join(letter for letter in str(name).casefold() if letter.isalpha())
            if plain in _ALSO or (plain == PATIENT and name != PATIENT):
                labels = _per_sample(frame, str(name)) if has_samples else frame[name]
                text = labels.fillna("").astype(str).str.strip()
                if text[text != ""].duplicated().any():
                    texts.append(f"column '{name}' repeats its labels; if they are patients, use --patient {name!r}")
        return texts
    labels = (_per_sample(frame, patient) if has_samples else frame[patient]).fillna("").astype(str).str.strip()
    counts = labels[labels != ""].value_counts()
    several = int((counts > 1).sum())
    if several:
        rows, units = len(labels), len(counts) + int((labels == "").sum())
        texts.append(
            f"{several} of {units} patients have several of the {rows} samples: patients, not samples, are independent"
        )
        if units < FEWEST_UNITS:
            texts.append(f"{units} patients are too few for intervals and tests ({FEWEST_UNITS} are needed)")
        elif units < FEW_UNITS:
            texts.append(f"{units} patients: intervals and tests were not checked for fewer than {FEW_UNITS}")
        if alone := int((labels == "").sum()):
            texts.append(f"{alone} samples without a patient count as patients of their own")
    return texts


def _per_sample(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame.groupby("sample", sort=False, observed=True)[name].first()
