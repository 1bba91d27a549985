"""Diffusion images and protocol in, maps of the tissue models out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histomri.core.errors import InputError
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, check_bic, choose_noise, choose_preset, preset_warnings
from histomri.study.result import StepResult
from histomri.study.stages.crlb import write_crlb
from histomri.study.stages.fit_maps import describe_fit
from histomri.study.stages.fit_tasks import Extras, Scan, plan
from histomri.study.stages.t2ivim import describe_t2ivim, read_kurtosis, write_t2ivim


def run_fit(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    models: Sequence[str] = ("diff-in",),
    dictionary: Dictionary | None = None,
    strategy: str | Sequence[str] | None = None,
    preset: str | None = None,
    mask: str | Path | None = None,
    sigma: float | str | Path | None = None,
    bmin: float | None = None,
    s0: str | Path | None = None,
    fv: str | Path | None = None,
    t2t: str | Path | None = None,
    noise: Any = None,
    bic: str = "schwarz",
    t2ivim: bool | None = None,
    kurtosis: float | str | None = None,
    extras: Extras | None = None,
    sub: str | None = None,
    progress: Progress | None = None,
) -> StepResult:
    """Fit tissue models to diffusion images and write their maps.

    Parameters
    ----------
    dwi : path-like
        4D NIfTI.
    protocol : str or path-like
        Any form that `read_acquisition` takes.
    out : path-like
        Folder for the maps.
    models : sequence of str
        Models to fit; may be empty if there is a dictionary.
    dictionary : Dictionary, optional
        Simulated signals to fit too, on the same protocol.
    strategy : {"whole", "high-b"} or sequence of them, optional
        Which b threshold of the preset; whole by default. With a sequence, the maps of each go to a folder of its name
        in `out`, and the images are read and normalised once for all.
    preset : str, optional
        Bounds and thresholds; by default those of the protocol, if it is named after a preset, or else mouse-exvivo.
    mask, s0, fv, t2t : path-like, optional
        NIfTI maps on the grid of the images.
    sigma : float, str or path-like, optional
        Noise level in the units of the signal, or a map of it, or ``estimate``; see `read_sigma`.
    bmin : float, optional
        Threshold in place of a strategy's, s/mm²; see `choose_threshold`.
    noise : {"offset-gaussian", "rician", "none"}, optional
        Objective; by default offset-Gaussian where sigma is given.
    bic : {"schwarz", "paper"}
        Definition of the BIC; see `fit`.
    t2ivim : bool, optional
        Whether S0, fV and T2 are fitted first, from all volumes, and written too. By default with an in-vivo preset
        and several echo times, unless they are given.
    kurtosis : float or "free", optional
        Value at which that step holds the kurtosis of the tissue; fitted by default.
    extras : Extras, optional
        Residuals, bootstrap, Cramér-Rao bound.
    sub : str, optional
        Sample name for the files.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    StepResult
        Maps and sidecars written, counts, warnings. The summary is by model, or by strategy and model if `strategy` is
        a sequence.

    Raises
    ------
    InputError
        If an input cannot be used, the folder holds the maps of a fit to other measurements, or no voxel was
        fitted; nothing is written then.
    """
    out, extras, chosen = Path(out), extras or Extras(), choose_preset(preset, protocol)
    tasks = plan(models, dictionary, strategy, chosen, bmin, out, sub)
    noise = choose_noise(noise, sigma)  # type: ignore[arg-type]  # whether there is one is all that matters here
    check_bic(bic)
    extras.check(sigma is not None, models)
    scan = Scan.read(
        dwi, protocol, mask, sigma, {"s0": s0, "fv": fv, "t2t": t2t}, t2ivim, read_kurtosis(kurtosis), chosen,
        share_of(progress, 0.0, 0.2),
    )  # fmt: skip
    done, step = [], 0.8 / len(tasks)
    for k, task in enumerate(tasks):
        advance = share_of(progress, 0.2 + k * step, 0.2 + (k + 1) * step)
        done.append(task.fit(scan, noise, bic, chosen, extras, advance))
    snr = scan.signal_to_noise() if extras.crlb else 0.0

    first, sources = scan.first, [*scan.sources, *(dictionary.sources if dictionary is not None else ())]
    outputs = [] if first is None else write_t2ivim(first, scan.series, out, scan.sources, sub, scan.level.record)
    for each in done:
        outputs += each.write(scan, sources, sub)
    if extras.crlb:
        thresholds = list(dict.fromkeys((task.strategy, task.bmin) for task in tasks))
        outputs += write_crlb(
            scan.series.acquisition, out, scan.series.sources, snr=snr, models=models, preset=chosen,
            thresholds=thresholds,
        ).outputs  # fmt: skip
    messages = [describe_t2ivim(first)] if first is not None else []
    messages += [describe_fit(each.task.title, each.result) for each in done]
    assumed = preset_warnings(chosen, scan.series.acquisition) if preset is None else ()
    warnings = [*scan.warnings, *assumed, *(text for each in done for text in each.result.warnings)]
    summary: dict[str, Any] = {}
    for each in done:
        place = summary if isinstance(strategy, str | None) else summary.setdefault(each.task.strategy, {})
        place[each.result.model] = {**each.result.counts, **each.result.parameters}
    return StepResult(tuple(outputs), tuple(messages), tuple(warnings), summary)


def read_dictionary(pair: tuple[Path, Path] | None, table: Path | None, names: str | None) -> Dictionary | None:
    """Read a dictionary from signals and parameters, or from one table; None if neither is given.

    Raises
    ------
    InputError
        If both are given, a file cannot be read, or the two do not fit together.
    """
    if pair is not None and table is not None:
        raise InputError("two dictionaries are given", hint="give --dictionary or --dictionary-table")
    if names and pair is None:
        raise InputError("--names is given, and no --dictionary whose columns have none", hint="leave it out")
    if pair is None and table is None:
        return None
    signals, parameters = pair if pair is not None else (table, None)
    chosen = [name.strip() for name in names.split(",")] if names else None
    return Dictionary.load(signals, parameters, chosen)  # type: ignore[arg-type]  # one of the two is there
