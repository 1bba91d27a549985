"""What was planned before the results were seen, and what the report shows beyond it."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from histomri.report.collect import Key, Run, as_dict, as_list
from histomri.report.text import decimals, fit_label, p_text

MARK = Markup(' <span class="exploratory">exploratory</span>')
_QUANTITY = {"TCS": "TCS", "HFC": "HFC"}  # of model_comparisons; BIC is not tested


def planned_fits(run: Run) -> set[Key] | None:
    """Return model and strategy of every fit of the plan; None if there is no plan."""
    plan = as_dict(run.study.get("plan"))
    if not plan:
        return None
    return {(str(fit[0]), str(fit[1])) for fit in as_list(plan.get("planned_fits")) if len(as_list(fit)) == 2}


def plan_card(run: Run) -> dict[str, Any] | None:
    """Return the plan for the page: its facts, the contrasts with their tests, and what is beyond it."""
    plan, planned = as_dict(run.study.get("plan")), planned_fits(run)
    if not plan or planned is None:
        return None
    names = "; ".join(map(str, as_list(plan.get("models"))))
    facts = [("Models", names), ("Primary criterion", str(plan.get("criterion")))]
    if excluded := as_list(plan.get("exclusions")):
        facts.append(("Left out", ", ".join(map(str, excluded))))
    if plan.get("dated"):
        facts.append(("Dated", str(plan["dated"])))
    facts.append(("First seen by a run", str(plan.get("first_seen"))))
    facts.append(("SHA-256", str(plan.get("sha256"))[:16]))
    earlier = len(as_list(plan.get("earlier")))
    texts = [f"The plan was changed {earlier} time{'s' if earlier > 1 else ''} after a run."] if earlier else []
    beyond = [fit_label(key) for row in run.ranking if (key := (row["model"], row["strategy"])) not in planned]
    if beyond:
        texts.append(f"Beyond the plan, and so exploratory: {'; '.join(beyond)}.")
    if plan.get("criterion") != "TCS":
        texts.append(f"The plan decides by {plan.get('criterion')}: the order by TCS is exploratory.")
    texts.append("What else the report shows beyond the plan is marked as exploratory.")
    return {"facts": facts, "contrasts": list(_contrasts(run, plan)), "text": texts}


def _contrasts(run: Run, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield each contrast of the plan with its test by the primary criterion."""
    quantity = _QUANTITY.get(str(plan.get("criterion")))
    for contrast in map(str, as_list(plan.get("contrasts"))):
        found = [text for row in run.comparisons if (text := _tested(row, contrast, quantity))]
        yield from found or [f"{contrast}: not tested ({'BIC has no test' if quantity is None else 'no result'})"]


def _tested(row: Mapping[str, Any], contrast: str, quantity: str | None) -> str | None:
    """Return the test of a contrast, if a row of the comparisons is it; the sign is that of the contrast."""
    if row.get("quantity") != quantity or row.get("test") not in ("jackknife", "paired t"):
        return None
    better, worse = (side.strip() for side in contrast.split(">"))
    a, b = ((str(row[f"model_{side}"]), str(row[f"strategy_{side}"])) for side in "ab")
    if _means(better, a) and _means(worse, b):
        sign, (one, other) = 1.0, (a, b)
    elif _means(better, b) and _means(worse, a):
        sign, (one, other) = -1.0, (b, a)
    else:
        return None
    values = [row.get(name) for name in ("difference", "ci_low", "ci_high", "p")]
    if any(not isinstance(value, int | float) for value in values):
        return f"{fit_label(one)} against {fit_label(other)}: {quantity} cannot be compared ({row.get('note')})"
    difference, low, high = (sign * float(value) for value in values[:3])  # type: ignore[arg-type]
    ends = f"[{decimals(min(low, high))}, {decimals(max(low, high))}]"
    p = p_text(float(values[3]))  # type: ignore[arg-type]
    return f"{fit_label(one)} against {fit_label(other)}: {quantity} differs by {decimals(difference)} {ends}, {p}"


def _means(side: str, fit: Key) -> bool:
    model, _, strategy = (part.strip() for part in side.partition(","))
    return fit[0] == model and strategy in ("", fit[1])
