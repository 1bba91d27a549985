"""The fits of a scan's regions of interest: each model and strategy, to the mean signal of each label."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.fitting import FitResult, fit, fit_t2ivim
from histomri.fitting.misfit_files import blood_signal
from histomri.fitting.options import FitOptions
from histomri.fitting.regions import RegionFits, fit_means, read_means
from histomri.fitting.results import count_cells
from histomri.fitting.t2ivim import normalising_maps
from histomri.fitting.tissue_mean import MeanVerdict, judge_mean
from histomri.fitting.without import t2ivim_settings
from histomri.mri import LabelMeans

if TYPE_CHECKING:
    from histomri.fitting.run import Scan, Task


def fit_regions(scan: "Scan", tasks: Iterable["Task"], options: FitOptions, preset: str) -> RegionFits | None:
    """Fit the mean signal of each label by every model and strategy; None where no labels are given.

    Means have no noise floor left, and are fitted as offset-Gaussian with their own errors. S0, fV and T2 are fitted to
    the means too, or averaged where maps of them were given.
    """
    means = read_means(
        options.roi, options.roi_names, scan.series, scan.signals, scan.level.level,
        () if options.robust == "none" else scan.spoilt,
    )  # fmt: skip
    if means is None:
        return None
    acquisition, first = scan.series.acquisition, None
    vascular = t2ivim_settings(options, preset, acquisition)
    if vascular is not None:
        first = fit_means(means, acquisition, partial(fit_t2ivim, **vascular))
        divided_by = normalising_maps(first)
    else:
        divided_by = _averaged(scan.divided_by, means)
    fits = []
    for task in tasks:
        how: dict[str, Any] = {
            "model": task.model, "bmin_smm2": task.bmin, "preset": preset, "bounds": task.bounds(options),
            "bic": options.bic, "robust": options.robust or "none",
        }  # fmt: skip
        with scan.series.name_files():
            result = fit_means(means, acquisition, partial(_fit_apart, **how), **divided_by)
        count_cells(result, options.size_cv)
        result.parameters["sigma"] = scan.level.record
        result.parameters["t2ivim"] = None if first is None else first.parameters
        fits.append((task.model.display_name, result))
    verdicts = tuple(_judge(scan, means, k, preset, first) for k in range(len(means)))
    settings = {"sigma": scan.level.record, "preset": preset}
    return RegionFits(means, tuple(fits), verdicts, first, settings)


def _fit_apart(signals: FloatArray, acquisition: Any, **how: Any) -> FitResult:
    """Fit regions, none of which says anything of whether a volume is spoilt in another."""
    return fit(signals, acquisition, **how, slices=np.arange(len(signals)))


def _averaged(maps: dict[str, FloatArray | None], means: LabelMeans) -> dict[str, FloatArray | None]:
    """Return the mean S0 of each label, and those of fV and T2, to which voxels count by their S0."""
    s0 = maps.get("s0")
    if s0 is None:
        return {name: None for name in maps}
    weight = np.where(np.isfinite(s0) & (s0 > 0), s0, 0.0)
    averaged: dict[str, FloatArray | None] = {}
    for name, values in maps.items():
        if values is None:
            averaged[name] = None
            continue
        found = np.zeros(len(means))
        for k, part in enumerate(means.members):
            own, total = weight[part], weight[part].sum()
            if total > 0:
                found[k] = own.mean() if name == "s0" else float(own @ np.nan_to_num(values[part], nan=0.0)) / total
        averaged[name] = found
    return averaged


def _judge(scan: "Scan", means: LabelMeans, k: int, preset: str, first: FitResult | None) -> MeanVerdict | None:
    part, acquisition = means.members[k], scan.series.acquisition
    if not part.size:
        return None
    pattern, blood = means.kept[k], None
    used = acquisition.select(pattern)
    if first is not None and used.te_ms is not None and "T2T" in first.maps and first.maps["exit"][k] > 0:
        own = {name: values[k : k + 1] for name, values in first.maps.items()}
        blood = np.broadcast_to(blood_signal(own, used.b_smm2, used.te_ms), (part.size, len(used)))
    sigma = np.broadcast_to(np.asarray(scan.level.level, dtype=float), scan.signals.shape[:1])[part]
    return judge_mean(scan.signals[part][:, pattern], used, sigma, preset, blood)
