"""Diffusion images and protocol in, maps of ADC and kurtosis out."""

from collections.abc import Callable
from pathlib import Path

from histomri.fitting import fit_dki, get_preset
from histomri.maps import map_name, write_map
from histomri.mri import open_dwi, read_acquisition
from histomri.study.stages.checks import blame, read_signals, require_fitted
from histomri.study.stages.grid import on_grid
from histomri.study.stages.result import StageResult


def run_dki(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    preset: str = "mouse-exvivo",
    mask: str | Path | None = None,
    bmin: float | None = None,
    bmax: float = 3000.0,
    te: float | None = None,
    big_delta: float | None = None,
    sub: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> StageResult:
    """Fit ADC and excess kurtosis and write their maps.

    Parameters
    ----------
    dwi : path-like
        4D NIfTI.
    protocol : str or path-like
        Any form that `read_acquisition` takes.
    out : path-like
        Folder for the maps.
    preset : str
        Which measurements are used by default; see `fit_dki`.
    mask : path-like, optional
        NIfTI on the grid of the images.
    bmin, bmax : float, optional
        Use b above the one and up to the other, s/mm².
    te, big_delta : float, optional
        Use this echo time and this diffusion time only, ms.
    sub : str, optional
        Sample name for the files.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    StageResult
        Maps and sidecars written, counts, warnings.

    Raises
    ------
    InputError
        If an input cannot be used, or no voxel was fitted; nothing is written then.
    """
    get_preset(preset)
    acquisition = read_acquisition(protocol, dwi)
    images = open_dwi(dwi)
    inside = images.read_mask(mask)
    report = progress or (lambda fraction: None)
    signals = read_signals(images, inside, mask, lambda fraction: report(0.5 * fraction))
    with blame(protocol):
        result = fit_dki(
            signals, acquisition, preset=preset, bmin_smm2=bmin, bmax_smm2=bmax, te_ms=te, Delta_ms=big_delta,
            progress=lambda fraction: report(0.5 + 0.5 * fraction),
        )  # fmt: skip
    require_fitted(result, "DKI", images, mask)
    sources = [Path(each) for each in (dwi, protocol, mask) if each is not None]
    outputs: list[Path] = []
    for name in ("ADC", "K", "S0"):
        path = Path(out) / map_name(name, "dwimap", sub=sub)
        outputs += write_map(
            path, on_grid(result.maps[name], inside, name), images.affine, sources=sources,
            parameters=result.parameters, Model="dki", BMin=result.parameters["bmin_smm2"],
        )  # fmt: skip
    # Marked, as it would else be taken for the exit codes of a tissue model.
    path = Path(out) / map_name("exit", "dwimap", sub=sub, desc="dki")
    outputs += write_map(
        path, on_grid(result.maps["exit"], inside, "exit"), images.affine, sources=sources,
        parameters=result.parameters, Model="dki", BMin=result.parameters["bmin_smm2"],
    )  # fmt: skip
    counts, settings = result.counts, result.parameters
    used = ", ".join(
        f"{label} {settings[key]:g} ms" for label, key in (("TE", "te_ms"), ("Δ", "Delta_ms")) if settings[key]
    )
    message = (
        f"DKI ({settings['measurements']} measurements{', ' + used if used else ''}): "
        f"{counts['fitted'] + counts['at_bound']} voxels fitted, {counts['at_bound']} of them at a bound, "
        f"{counts['background']} background, {counts['failed']} failed"
    )
    return StageResult(tuple(outputs), (message,), images.warnings + result.warnings, {**counts, **settings})
