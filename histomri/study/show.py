"""The graph of a study, printed: which steps run, what each reads and writes."""

from collections.abc import Iterator, Sequence

from histomri.study.graph import PER_SAMPLE, PER_STUDY, Step
from histomri.study.sources import Key
from histomri.study.study_file import Study


def graph_text(study: Study) -> str:
    """Return the graph as text: a line per step, with what it reads and where it writes."""
    lines = []
    for steps, who in _groups(study):
        lines.append(who)
        width = max((len(step.name) for step in steps), default=0)
        for step in steps:
            lines.append(f"  {step.name:<{width}}  <- {', '.join(_reads(step, steps)) or 'nothing'}  -> {_place(step)}")
    return "\n".join(lines)


def graph_mermaid(study: Study) -> str:
    """Return the graph in the language of Mermaid, which GitHub and many editors draw."""
    lines = ["flowchart LR"]
    for number, (steps, who) in enumerate(_groups(study), 1):
        names = {step.name for step in steps}
        lines += [f'  subgraph g{number}["{who}"]', *(f'    {step.name}["{step.name}"]' for step in steps), "  end"]
        lines += [f"  {before} --> {step.name}" for step in steps for before in step.after if before in names]
        lines += [f"  {before} --> {step.name}" for step in steps for before in step.after if before not in names]
    return "\n".join(dict.fromkeys(lines))


def _groups(study: Study) -> Iterator[tuple[Sequence[Step], str]]:
    """Yield the steps of samples that run the same ones, and then those over all samples."""
    by_steps: dict[tuple[str, ...], list[str]] = {}
    for sample in study.samples:
        active = study.place(sample).active
        by_steps.setdefault(tuple(step.name for step in PER_SAMPLE if step.name in active), []).append(sample.id)
    for names, ids in by_steps.items():
        who = f"{len(ids)} samples" if len(ids) > 3 else ", ".join(f"sub-{each}" for each in ids)
        yield [step for step in PER_SAMPLE if step.name in names], who
    yield [step for step in PER_STUDY if step.is_wanted(study)], "over all samples"


def _reads(step: Step, steps: Sequence[Step]) -> list[str]:
    """Return what a step reads: keys of the sample, then other steps."""
    options = step.command.options_class
    own = [step.source(name) for name in options.names("input")]
    keys = [source.name for source in own if isinstance(source, Key) and source.name not in ("id",)]
    known = {each.name for each in steps} | {each.name for each in PER_SAMPLE}
    return [*dict.fromkeys(keys), *(f"[{name}]" for name in step.after if name in known)]


def _place(step: Step) -> str:
    return step.out.format(id="X") or "the results folder"
