"""Jackknife pseudo-values: one matrix, rows of a ranking x cases (or patients), behind all that compares the rows.

Intervals, differences, the set of models, ranks and the influence of a case all follow from it, so that they agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from histomri.analysis.correlation import jackknife_z_interval, weighted_correlation
from histomri.analysis.patients import FEWEST_UNITS, unit_codes
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.columns import PAIRED

FEWEST_FOR_INTERVAL = 4  # cases; of patients with several rows `FEWEST_UNITS`
_LARGEST = 1.0 - 1e-12  # correlation from which Fisher's z is not larger


@dataclass(frozen=True)
class PseudoValues:
    """Estimates of K rows, and their jackknife pseudo-values over n cases or patients."""

    estimates: FloatArray  # (K,)
    values: FloatArray  # (K, n)

    @classmethod
    def of(cls, estimates: FloatArray, without_one: FloatArray) -> "PseudoValues":
        """Return the pseudo-values of estimates (K,) and of those without each unit in turn, (K, n)."""
        n = without_one.shape[1]
        return cls(estimates, n * estimates[:, None] - (n - 1) * without_one)

    @classmethod
    def of_means(cls, values: FloatArray, codes: IntArray) -> "PseudoValues":
        """Return the pseudo-values of the means over cases of values (K, N); `codes` (N,) number their units."""
        sizes = np.bincount(codes)
        sums = np.stack([np.bincount(codes, row) for row in values])
        total, n = sums.sum(axis=1, keepdims=True), sizes.sum()
        return cls.of(values.mean(axis=1), (total - sums) / (n - sizes))

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.values.shape[1])

    @cached_property
    def centred(self) -> FloatArray:
        """Pseudo-values less their mean, (K, n)."""
        return np.asarray(self.values - self.values.mean(axis=1, keepdims=True))

    @cached_property
    def standard_errors(self) -> FloatArray:
        """Standard error of each estimate, (K,)."""
        return np.asarray(np.sqrt((self.centred**2).sum(axis=1) / (self.n * (self.n - 1))))

    @cached_property
    def norms(self) -> FloatArray:
        """Length of the difference of the centred pseudo-values of each two rows, (K, K); 0 for rows that are one."""
        products = self.centred @ self.centred.T
        own = np.diag(products)
        squared = np.stack([((row - self.centred) ** 2).sum(axis=1) for row in self.centred])
        return np.where(squared > 1e-18 * np.maximum(own[:, None], own), np.sqrt(squared), 0.0)

    @cached_property
    def statistics(self) -> FloatArray:
        """Estimate of row i less that of row j over the error of the difference, (K, K); 0 for rows that are one."""
        difference = self.estimates[:, None] - self.estimates
        errors = self.norms / math.sqrt(self.n * (self.n - 1))
        return np.where(errors > 0, difference / np.where(errors > 0, errors, 1.0), 0.0)


def fisher_z(scores: ArrayLike) -> FloatArray:
    """Return Fisher's z of TCS/2, or of any correlation; it is finite where the correlation is 1."""
    return np.asarray(np.arctanh(np.clip(scores, -_LARGEST, _LARGEST)))


@dataclass(frozen=True)
class ScoredCases:
    """Rows of a ranking (model, strategy) and the cases that they are scored on."""

    rows: Sequence[tuple[Any, ...]]  # (model, strategy), K of them
    samples: Sequence[Any]  # N, sorted
    values: FloatArray  # (K, N, 4), in the order of `PAIRED`; NaN where the row lacks the case
    codes: IntArray  # (N,), the unit of each case: the case itself, or its patient
    units: Sequence[str]  # names of the units

    @classmethod
    def of(cls, table: pd.DataFrame, patient: str | None = None) -> "ScoredCases":
        """Return the cases of a table with one row per sample x model x strategy."""
        samples = sorted(table["sample"].unique(), key=str)
        groups = table.groupby(["model", "strategy"], sort=False)
        parts = [part.set_index("sample")[list(PAIRED)].reindex(samples) for _, part in groups]
        codes, units = unit_codes(table, samples, patient)
        values = np.stack([part.to_numpy(dtype=float) for part in parts])
        return cls([key for key, _ in groups], samples, values, codes, units)

    @property
    def clustered(self) -> bool:
        """Whether a patient has several cases."""
        return len(self.units) < len(self.samples)

    def tcs(self, weights: FloatArray) -> FloatArray:
        """Return TCS of every row with the weights (B, N) of the cases, (B, K); NaN where it is undefined."""
        return np.stack([_tcs(weights, values) for values in self.values], axis=1)

    @cached_property
    def complete(self) -> np.ndarray:
        """Whether each row has each case, (K, N)."""
        return np.asarray(np.isfinite(self.values).all(axis=2))

    def jackknife(self, row: int) -> tuple[float, FloatArray]:
        """Return TCS/2 of a row, and that without each of its units, in the order of their names.

        All are summed in one order, so that the order of the rows of a table changes no digit.
        """
        known = self.complete[row]
        codes = np.unique(self.codes[known], return_inverse=True)[1]
        units = int(codes.max()) + 1 if codes.size else 0
        weights = np.vstack([np.ones(len(codes)), (1.0 - np.eye(units))[:, codes]])
        scored = _tcs(weights, self.values[row][known]) / 2.0
        return float(scored[0]), scored[1:]

    def interval(self, row: int, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return the interval of TCS of a row by the jackknife over its units; None of too few of them."""
        units = len(np.unique(self.codes[self.complete[row]]))
        fewest = FEWEST_UNITS if self.clustered else FEWEST_FOR_INTERVAL
        if units < fewest:
            return None
        half = jackknife_z_interval(*self.jackknife(row), confidence)
        return None if half is None else (2.0 * half[0], 2.0 * half[1])

    def pseudo_values(self, rows: Sequence[int]) -> tuple[PseudoValues, list[int]]:
        """Return the pseudo-values of Fisher's z of TCS/2 of some rows, and the units that they are of.

        The rows have all cases in common. Units without which one of the rows has no TCS are left out.
        """
        weights = np.vstack([np.ones(len(self.samples)), (1.0 - np.eye(len(self.units)))[:, self.codes]])
        z = fisher_z(self.tcs(weights)[:, list(rows)] / 2.0)
        known = np.flatnonzero(np.isfinite(z[1:]).all(axis=1))
        return PseudoValues.of(z[0], z[1:][known].T), [int(unit) for unit in known]


def _tcs(weights: FloatArray, values: FloatArray) -> FloatArray:
    known = np.asarray(np.isfinite(values).all(axis=1))
    size, size_histo, fraction, fraction_histo = np.where(known[:, None], values, np.nan).T
    scored = weighted_correlation(weights, size, size_histo) + weighted_correlation(weights, fraction, fraction_histo)
    return np.asarray(scored)
