"""The graph of a study, printed: which steps run, what each reads and writes."""

from collections.abc import Iterator, Sequence

from histomri.study.graph import PER_SAMPLE, PER_STUDY
from histomri.study.sample import Sample
from histomri.study.step import Step
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
    lines, groups = ["flowchart LR"], list(_groups(study))
    for number, (steps, who) in enumerate(groups, 1):
        names = {step.name: f"{step.name}_{number}" for step in steps}
        lines += [f'  subgraph g{number}["{who}"]', *(f'    {names[name]}["{name}"]' for name in names), "  end"]
        for step in steps:
            for before in step.after:
                # The steps over all samples read from every group.
                others = [k for k, (each, _) in enumerate(groups[:-1], 1) if before in {one.name for one in each}]
                ends = (
                    [names[before]] if before in names else [f"{before}_{k}" for k in others if number == len(groups)]
                )
                lines += [f"  {end} --> {names[step.name]}" for end in ends]
    return "\n".join(lines)


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
    keys = [
        source.key for source in own if source is not None and source.key in Sample.model_fields and source.key != "id"
    ]
    ran = {each.name for each in steps} | ({"fit", "pair"} if steps and steps[0] in PER_STUDY else set())
    return [*dict.fromkeys(str(name) for name in keys), *(f"[{name}]" for name in step.after if name in ran)]


def _place(step: Step) -> str:
    return step.out.format(id="X") or "the results folder"
