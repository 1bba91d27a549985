"""Diffusion images and protocol in, maps of ADC and kurtosis out."""

from pathlib import Path

from histomri.core.images import map_name
from histomri.core.progress import Progress, share_of
from histomri.fitting import choose_preset, fit_dki, preset_warnings
from histomri.study.result import StepResult
from histomri.study.stages.series import Series, counted


def run_dki(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    preset: str | None = None,
    mask: str | Path | None = None,
    bmin: float | None = None,
    bmax: float = 3000.0,
    te: float | None = None,
    big_delta: float | None = None,
    sub: str | None = None,
    progress: Progress | None = None,
) -> StepResult:
    """Fit ADC and excess kurtosis and write their maps.

    Parameters
    ----------
    dwi, protocol, out, mask, sub, progress
        As in `run_fit`.
    preset : str, optional
        Which measurements are used by default; see `fit_dki`. Without it, that of a protocol named after a preset, or
        else mouse-exvivo.
    bmin, bmax : float, optional
        Use b above the one and up to the other, s/mm².
    te, big_delta : float, optional
        Use this echo time and this diffusion time only, ms.

    Returns
    -------
    StepResult
        Maps and sidecars written, counts, warnings.

    Raises
    ------
    InputError
        If an input cannot be used, or no voxel was fitted; nothing is written then.
    """
    chosen = choose_preset(preset, protocol)
    series = Series.open(dwi, protocol, mask)
    signals = series.read(share_of(progress, 0.0, 0.5))
    with series.blame_protocol():
        result = fit_dki(
            signals, series.acquisition, preset=chosen, bmin_smm2=bmin, bmax_smm2=bmax, te_ms=te, Delta_ms=big_delta,
            progress=share_of(progress, 0.5, 1.0),
        )  # fmt: skip
    series.require_fitted(result, "DKI")
    settings = result.parameters
    outputs: list[Path] = []
    # The codes are marked, as they would else be taken for those of a tissue model.
    for name, desc in (("ADC", None), ("K", None), ("S0", None), ("exit", "dki")):
        path = Path(out) / map_name(name, "dwimap", sub=sub, desc=desc)
        outputs += series.write(path, result.maps[name], parameters=settings, Model="dki", BMin=settings["bmin_smm2"])
    used = ", ".join(
        f"{label} {settings[key]:g} ms" for label, key in (("TE", "te_ms"), ("Δ", "Delta_ms")) if settings[key]
    )
    message = f"DKI ({settings['measurements']} measurements{', ' + used if used else ''}): {counted(result)}"
    assumed = preset_warnings(chosen, series.acquisition) if preset is None else ()
    warnings = series.images.warnings + assumed + result.warnings
    return StepResult(tuple(outputs), (message,), warnings, {**result.counts, **settings})
