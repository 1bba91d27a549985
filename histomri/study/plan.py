"""The analysis plan: what was decided before the results were seen, checked against the study, hashed and dated."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from histomri.core.options import Text

BETWEEN = " > "  # in a contrast, such as "diff-in, high-b > diff-in-ex, whole"


class Plan(BaseModel):
    """The table [plan] of a study file.

    `models` are those that are compared, as ``model`` or ``model, strategy``; `criterion` is the one that decides;
    `exclusions` are ids of samples that are left out; `contrasts` are pairs of models that are tested, the one that is
    expected to be better first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[tuple[Text, ...], Field(min_length=1)]
    criterion: Literal["TCS", "HFC", "BIC"] = "TCS"
    exclusions: tuple[Text, ...] = ()
    contrasts: tuple[Text, ...] = ()
    dated: date | None = None
    notes: Text | None = None

    @property
    def sha256(self) -> str:
        """The hash of what the plan says, its date included."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return self.model_dump(mode="json", exclude_none=True)

    def contradictions(self, fits: set[tuple[str, str]], samples: list[str]) -> Iterator[str]:
        """Yield where the plan contradicts a study with these fits (model, strategy) and samples."""
        for name in self.models:
            if not set(_fits_of(name, fits)):
                yield f"plan.models: {name!r} is not fitted in this study; it fits {_listed(fits)}"
        for name in self.exclusions:
            if name in samples:
                yield f"plan.exclusions: the plan excludes {name}, and it is a sample of the study; delete one of both"
        for contrast in self.contrasts:
            yield from self._wrong_contrast(contrast, fits)
        if self.criterion == "BIC" and len({model for model, _ in fits}) < 2:
            yield "plan.criterion: BIC compares models within a strategy, and the study fits one model"
        if self.dated is not None and self.dated > datetime.now(UTC).date():
            yield f"plan.dated: {self.dated.isoformat()} lies in the future"

    def _wrong_contrast(self, contrast: str, fits: set[tuple[str, str]]) -> Iterator[str]:
        sides = [side.strip() for side in contrast.split(BETWEEN.strip())]
        if len(sides) != 2 or sides[0] == sides[1]:
            yield f"plan.contrasts: {contrast!r} must name two models, as in 'diff-in, high-b > diff-in-ex, high-b'"
            return
        planned = {fit for name in self.models for fit in _fits_of(name, fits)}
        for side in sides:
            mine = set(_fits_of(side, fits))
            if not mine:
                yield f"plan.contrasts: {side!r} is not fitted in this study; it fits {_listed(fits)}"
            elif not mine <= planned:
                yield f"plan.contrasts: {side!r} is none of the plan's models ({'; '.join(self.models)})"

    def record(self, fits: set[tuple[str, str]], before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the plan for study.json: its hash, when a run first saw it, and the plans that it replaced.

        `before` is the record of an earlier run in the same folder. The same plan keeps its date.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        earlier = list((before or {}).get("earlier") or [])
        first = now
        if before and before.get("sha256") == self.sha256:
            first = str(before.get("first_seen") or now)
        elif before and before.get("sha256"):
            earlier.append({"sha256": before["sha256"], "first_seen": before.get("first_seen"), "replaced": now})
        planned = sorted({fit for name in self.models for fit in _fits_of(name, fits)})
        about = {"sha256": self.sha256, "first_seen": first, "earlier": earlier}
        return {**self.plain(), **about, "planned_fits": [list(fit) for fit in planned]}


def changed(record: Mapping[str, Any]) -> list[str]:
    """Say that a plan was changed after a run had seen another one."""
    earlier = record.get("earlier") or []
    if not earlier:
        return []
    first = earlier[0].get("first_seen")
    return [f"the analysis plan was changed after a first run ({first}): {len(earlier)} earlier plan(s) in study.json"]


def _fits_of(name: str, fits: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the fits that a name of the plan means: a model by every strategy, or by one."""
    model, _, strategy = (part.strip() for part in name.partition(","))
    yield from (fit for fit in fits if fit[0] == model and strategy in ("", fit[1]))


def _listed(fits: set[tuple[str, str]]) -> str:
    return "; ".join(sorted(f"{model}, {strategy}" for model, strategy in fits))
