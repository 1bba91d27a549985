"""The series that all fits of a run share: read once, with its noise level, S0, fV, T2 and spoilt volumes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.progress import Progress, share_of
from histomri.fitting import FitResult
from histomri.fitting.misfit_files import blood_signal
from histomri.fitting.options import FitOptions
from histomri.fitting.outputs import require_fitted
from histomri.fitting.t2ivim import normalising_maps
from histomri.fitting.tissue_mean import MeanVerdict, judge_mean
from histomri.fitting.without import fit_t2ivim_without, spoilt_before_any_model, t2ivim_settings
from histomri.mri import Labels, Series, Sigma, SpoiltVolume, read_sigma


@dataclass(frozen=True)
class Scan:
    """The series that all fits share, read and normalised once."""

    series: Series
    signals: FloatArray  # (V, M), of the voxels of the mask
    level: Sigma
    first: FitResult | None  # of the T2-IVIM step, if it was done
    divided_by: dict[str, FloatArray | None]  # s0, fv and t2t, and fv_se where it is known, (V,)
    sources: list[Path]  # the files read besides images, protocol and mask
    spoilt: tuple[SpoiltVolume, ...] = ()  # as a smooth curve over b shows them, before any model

    @classmethod
    def read(cls, options: FitOptions, preset: str, progress: Progress) -> "Scan":
        """Read everything, and fit S0, fV and T2 where they are wanted and not given."""
        series = Series.open(
            options.dwi, options.protocol, options.mask, exclude=options.exclude_volumes, **options.reading
        )
        if options.roi is not None and not options.maps:
            series = series.within(Labels.read(options.roi, series.images, options.roi_names).image > 0)
        level = read_sigma(options.sigma, series)
        s0, t2t = series.read_positive(options.s0, "S0"), series.read_positive(options.t2t, "T2")
        divided_by = {"s0": s0, "fv": series.read_values(options.fv), "t2t": t2t}
        signals = series.read(share_of(progress, 0.0, 0.5))
        spoilt = () if level.level is None else spoilt_before_any_model(signals, series, level.level)
        first = None
        vascular = t2ivim_settings(options, preset, series.acquisition)
        if vascular is not None and options.maps:
            out = () if options.robust == "none" else spoilt
            how = {**vascular, "sigma": level.level, "progress": share_of(progress, 0.5, 1.0)}
            with series.name_files():
                first = fit_t2ivim_without(signals, series, out, **how)
            require_fitted(first, series, "T2-IVIM")
            divided_by = normalising_maps(first)
        maps = (options.s0, options.fv, options.t2t, level.source)
        return cls(series, signals, level, first, divided_by, [path for path in maps if path is not None], spoilt)

    def judge_mean(self, preset: str) -> MeanVerdict | None:
        """Judge the mean signal of the slices in which no volume is spoilt; None without noise level."""
        if self.level.level is None:
            return None
        series = self.series
        clean = ~np.isin(series.slices, [each.slice for each in self.spoilt])
        sigma = np.broadcast_to(np.asarray(self.level.level, dtype=float), clean.shape)
        blood = None
        if self.first is not None and series.acquisition.te_ms is not None:
            blood = blood_signal(self.first.maps, series.acquisition.b_smm2, series.acquisition.te_ms)[clean]
        return judge_mean(self.signals[clean], series.acquisition, sigma[clean], preset, blood)

    def signal_to_noise(self) -> float:
        """Return the median over voxels of the signal at b = 0 and the shortest echo time, over the noise level."""
        acquisition = self.series.acquisition
        te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
        lowest = acquisition.b_smm2 == acquisition.b_smm2.min()
        chosen = lowest & (te == te[lowest].min())
        ratio = self.signals[:, chosen].mean(axis=1) / np.asarray(self.level.level, dtype=float)
        found = float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else 0.0
        if not found > 0:
            raise InputError("no signal is above 0 where it is highest, so there is no signal-to-noise ratio")
        return found
