"""Which claims of the source paper about the models hold in a study, with the evidence.

The paper is Grussu et al. 2025, doi 10.1038/s43856-025-01246-2, and its claims are about permeabilities of 10 and
50 µm/s. "holds" and "does not hold" need a 95 % interval of a paired difference that excludes 0; all else is
"undecided". A claim over several rivals holds if it holds against each; that it does not hold is decided with an
interval that is wider the more rivals there are (Bonferroni), so neither verdict is wrong in more than 2.5 % of studies
that are on the verge of the other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from histomri.core.arrays import FloatArray
from histomri.fitting import get_model

from .scores import Score

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]
LOW, HIGH = 10.0, 50.0  # permeabilities of the claims, µm/s
SPHERES, DIFFUSION = "diff-in", "high-b"  # the model and the strategy that the paper prefers
_TAIL, _Z95 = 0.025, 1.959964
_STRATEGY = {"whole": "the whole set", "high-b": "high b"}

STATEMENTS = {
    "tcs_high_b": "At κ 10 µm/s Diff-in on high b has the highest TCS of the fits on high b.",
    "tcs_all": "At κ 10 µm/s Diff-in on high b has the highest TCS of all fits.",
    "lead_falls": "The lead in TCS of Diff-in over the best other model on high b falls as κ grows.",
    "tcs_falls": "The highest TCS falls from κ 10 to 50 µm/s.",
    "bic_high_b": "At κ 10 µm/s BIC prefers Diff-in on high b: it wins the most tissues.",
    "bic_whole": "At κ 10 µm/s BIC prefers Diff-in on the whole set: it wins the most tissues.",
    "hfc_high_b": "At κ 10 µm/s HFC does not prefer Diff-in on high b: another model has a lower mean.",
}


@dataclass(frozen=True)
class Claim:
    """A claim in one setting.

    Attributes
    ----------
    protocol : str
    snr : float
    claim : str
        A key of `STATEMENTS`.
    verdict : {"holds", "does not hold", "undecided", "not tested"}
    difference, low, high : float
        That decided, with its interval of 95 % (wider where several rivals are rejected); NaN if not tested.
    evidence : str
        The numbers in a sentence.
    """

    protocol: str
    snr: float
    claim: str
    verdict: Verdict
    evidence: str
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


def judge_claims(scores: Iterable[Score]) -> list[Claim]:
    """Return every claim for every protocol and SNR of the scores."""
    settings: dict[tuple[str, float], list[Score]] = {}
    for score in scores:
        protocol, _, snr = score.setting
        settings.setdefault((protocol, snr), []).append(score)
    return [claim for (protocol, snr), found in settings.items() for claim in _Setting(protocol, snr, found).claims()]


def claims_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return a row per claim, with its statement."""
    rows = [{**asdict(claim), "statement": STATEMENTS[claim.claim]} for claim in claims]
    columns = ["protocol", "snr", "claim", "statement", "verdict", "difference", "low", "high", "evidence"]
    return pd.DataFrame(rows, columns=columns)


class _NotTestedError(Exception):
    """Something that a claim is about was not asked for."""


@dataclass(frozen=True)
class _Difference:
    """A paired difference to each of m rivals: as found, (m,), and in the resamples, (m, B)."""

    rivals: list[Score]
    found: FloatArray
    drawn: FloatArray

    def judge(self) -> tuple[Verdict, int, float, float]:
        """Return whether all are above 0, which rival decides, and the interval."""
        low = np.nanquantile(self.drawn, _TAIL, axis=1)
        high = np.nanquantile(self.drawn, 1.0 - _TAIL / len(self.rivals), axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return "undecided", 0, float(low[0]), float(high[0])
        if (high < 0).any():
            worst = int(high.argmin())
            return "does not hold", worst, float(low[worst]), float(high[worst])
        if not (low > 0).all():
            nearest = int(low.argmin())
            return "undecided", nearest, float(low[nearest]), float(high[nearest])
        nearest = int(self.found.argmin())
        return "holds", nearest, float(low[nearest]), float(np.nanquantile(self.drawn[nearest], 1.0 - _TAIL))


@dataclass(frozen=True)
class _Setting:
    protocol: str
    snr: float
    scores: list[Score]

    def claims(self) -> Iterator[Claim]:
        judges = {
            "tcs_high_b": lambda: self._leads(DIFFUSION),
            "tcs_all": lambda: self._leads(None),
            "lead_falls": self._lead_falls,
            "tcs_falls": self._falls,
            "bic_high_b": lambda: self._bic(DIFFUSION),
            "bic_whole": lambda: self._bic("whole"),
            "hfc_high_b": self._hfc,
        }
        for name, judge in judges.items():
            try:
                verdict, evidence, *numbers = judge()
                yield Claim(self.protocol, self.snr, name, verdict, evidence, *numbers)
            except _NotTestedError as reason:
                yield Claim(self.protocol, self.snr, name, "not tested", f"Not tested: the study has no {reason}.")

    def _at(self, kappa: float, strategy: str | None = None) -> list[Score]:
        found = [one for one in self.scores if one.setting[1] == kappa and strategy in (None, one.strategy)]
        if not found:
            what = f"fits on {_STRATEGY.get(strategy, strategy)} at" if strategy else ""
            raise _NotTestedError(f"{what} κ {kappa:g} µm/s".strip())
        return found

    def _against(self, kappa: float, strategy: str | None, favourite: str) -> tuple[Score, list[Score]]:
        """Return Diff-in by the strategy `favourite`, and its rivals."""
        found = self._at(kappa, strategy)
        own = [one for one in found if (one.model, one.strategy) == (SPHERES, favourite)]
        rivals = [one for one in found if one not in own]
        if not own:
            raise _NotTestedError(f"{_named(SPHERES)} on {_STRATEGY[favourite]}")
        if not rivals:
            raise _NotTestedError("other fit to compare with")
        return own[0], rivals

    def _leads(self, strategy: str | None) -> tuple[Verdict, str, float, float, float]:
        own, rivals = self._against(LOW, strategy, DIFFUSION)
        gap = _Difference(
            rivals,
            np.array([own.row["TCS"] - one.row["TCS"] for one in rivals]),
            np.array([own.tcs - one.tcs for one in rivals]),
        )
        verdict, place, low, high = gap.judge()
        rival, difference = rivals[place], float(gap.found[place])
        whose = _fit(rival) if strategy is None else _named(rival.model)
        text = f"TCS {own.row['TCS']:.2f}; {whose} {rival.row['TCS']:.2f}; difference {_with(difference, low, high)}."
        return verdict, _typeset(text), difference, low, high

    def _lead_falls(self) -> tuple[Verdict, str, float, float, float]:
        last = max(one.setting[1] for one in self.scores)
        if last <= LOW:
            raise _NotTestedError(f"κ above {LOW:g} µm/s")
        leads = []
        for kappa in (LOW, last):
            own, rivals = self._against(kappa, DIFFUSION, DIFFUSION)
            best = max(rivals, key=lambda one: one.row["TCS"])
            leads.append((own.row["TCS"] - best.row["TCS"], own.tcs - best.tcs))
        (first, drawn), (second, later) = leads
        verdict, low, high = _sign(drawn - later)
        text = f"Lead {first:z.2f} at κ {LOW:g} and {second:z.2f} at κ {last:g}; "
        return verdict, _typeset(f"{text}fall {_with(first - second, low, high)}."), first - second, low, high

    def _falls(self) -> tuple[Verdict, str, float, float, float]:
        first, second = (max(self._at(kappa), key=lambda one: one.row["TCS"]) for kappa in (LOW, HIGH))
        verdict, low, high = _sign(first.tcs - second.tcs)
        difference = first.row["TCS"] - second.row["TCS"]
        parts = (f"{one.row['TCS']:.2f} at κ {one.setting[1]:g} ({_fit(one)})" for one in (first, second))
        text = f"Highest TCS {' and '.join(parts)}; fall {_with(difference, low, high)}."
        return verdict, _typeset(text), difference, low, high

    def _bic(self, strategy: str) -> tuple[Verdict, str, float, float, float]:
        own, rivals = self._against(LOW, strategy, strategy)
        z_rejected = float(-ndtri(_TAIL / len(rivals)))
        gaps = [_share_difference(own, one) for one in rivals]
        above = [middle - _Z95 * error for middle, error in gaps]
        below = [middle + z_rejected * error for middle, error in gaps]
        verdict: Verdict = "holds" if min(above) > 0 else "does not hold" if min(below) < 0 else "undecided"
        place = int(np.argmin(below if verdict == "does not hold" else above))
        difference = own.row["BIC_wins"] - rivals[place].row["BIC_wins"]
        ends = (above[place], gaps[place][0] + _Z95 * gaps[place][1] if verdict == "holds" else below[place])
        text = f"Wins {100 * own.row['BIC_wins']:.0f} % of {own.row['n']:.0f} tissues; {_named(rivals[place].model)} "
        text += f"{100 * rivals[place].row['BIC_wins']:.0f} %; difference {_percents(difference, *ends)}."
        return verdict, _typeset(text), difference, *ends

    def _hfc(self) -> tuple[Verdict, str, float, float, float]:
        """Judge whether another model has a lower mean HFC: the opposite of Diff-in having the lowest of all."""
        own, rivals = self._against(LOW, DIFFUSION, DIFFUSION)
        gap = _Difference(
            rivals,
            np.array([one.row["HFC"] - own.row["HFC"] for one in rivals]),
            np.array([one.hfc - own.hfc for one in rivals]),
        )
        lowest, place, low, high = gap.judge()
        opposite: dict[Verdict, Verdict] = {"holds": "does not hold", "does not hold": "holds"}
        rival, difference = rivals[place], -float(gap.found[place])
        text = f"Mean HFC {own.row['HFC']:.2f}; {_named(rival.model)} {rival.row['HFC']:.2f}; difference "
        text += (
            f"{_with(difference, -high, -low)}. Diff-in has the lowest in {100 * own.row['HFC_wins']:.0f} % of tissues."
        )
        return opposite.get(lowest, lowest), _typeset(text), difference, -high, -low


def _sign(drawn: FloatArray) -> tuple[Verdict, float, float]:
    low, high = (float(end) for end in np.nanquantile(drawn, [_TAIL, 1.0 - _TAIL]))
    return ("holds" if low > 0 else "does not hold" if high < 0 else "undecided"), low, high


def _share_difference(one: Score, other: Score) -> tuple[float, float]:
    """Return the difference of two fractions of the same tissues, and its standard error.

    Half a tissue is added to each of the four outcomes (Agresti & Min 2005, doi 10.1002/sim.1781).
    """
    n = one.row["n"] + 2.0
    first, second = (score.row["BIC_wins"] * score.row["n"] + 0.5 for score in (one, other))
    difference = (first - second) / n
    return difference, float(np.sqrt(max(first + second - n * difference**2, 0.0)) / n)


def _named(model: str) -> str:
    return get_model(model).display_name


def _fit(score: Score) -> str:
    return f"{_named(score.model)} on {_STRATEGY.get(score.strategy, score.strategy)}"


def _with(difference: float, low: float, high: float) -> str:
    return f"{difference:z.2f} [{low:z.2f}, {high:z.2f}]"


def _percents(difference: float, low: float, high: float) -> str:
    return f"{100 * difference:z.0f} % points [{100 * low:z.0f}, {100 * high:z.0f}]"


def _typeset(text: str) -> str:
    """Return text with true minus signs before numbers."""
    return "".join(
        "\u2212" if letter == "-" and text[place + 1 : place + 2].isdigit() and text[place - 1] in " [" else letter
        for place, letter in enumerate(text)
    )
