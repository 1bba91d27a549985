"""A study to its scores in every way it could have been analysed: table, summary and specification curve."""

from functools import partial
from pathlib import Path

from matplotlib import rc_context

from histomri.core.files import write_json, write_text
from histomri.core.formulas import without_formulas
from histomri.core.progress import Progress
from histomri.core.provenance import software_version
from histomri.report.figures.charts import STYLE
from histomri.report.figures.files import save_figure
from histomri.report.figures.multiverse import specification_curve
from histomri.study.multiverse import run_multiverse
from histomri.study.options import MultiverseOptions
from histomri.study.result import StepResult


def run(options: MultiverseOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write multiverse.csv, multiverse.json and multiverse.svg."""
    found = run_multiverse(options, out, progress or (lambda fraction: None))
    rows = found.summary.astype(object).where(found.summary.notna(), None).to_dict("records")
    content = {"GeneratedBy": software_version(), "specifications": found.number, "failed": found.failed}
    content |= {"choices": found.choices, "models": rows, "warnings": list(found.warnings)}
    outputs = [write_text(out / "multiverse.csv", without_formulas(found.table).to_csv(index=False))]
    outputs.append(write_json(out / "multiverse.json", content))
    with rc_context(STYLE):
        draw = partial(specification_curve, found.table, found.choices)
        outputs += [path for path in (save_figure(draw, out / "multiverse.svg", "svg"),) if path is not None]
    lines = [f"{found.number} specifications" + (f", {found.failed} of them without TCS" if found.failed else "")]
    for row in rows:
        text = f"{row['model']} ({row['strategy']}): TCS {row['TCS_min']:.2f} to {row['TCS_max']:.2f}"
        if row["TCS_reported"] is not None:
            share = "" if row["share_below_reported"] is None else f", above {100 * row['share_below_reported']:.0f} %"
            text += f", {row['TCS_reported']:.2f} as reported{share} of the others"
        lines.append(f"{text}; first in {100 * row['share_first']:.0f} % of {row['n_specifications']}")
    return StepResult(tuple(outputs), tuple(lines), found.warnings, {"specifications": found.number})
