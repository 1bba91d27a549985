"""Noise, and the fits of every model by every strategy to the walked signals."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.progress import Progress, share_of
from histomri.fitting import fit
from histomri.fitting.choices import Bic
from histomri.simulation.signals import add_rician

from .walks import Walked

SETTING = ["protocol", "kappa_um_s", "snr"]
FIT = ["strategy", "model"]
# Of the fit: its column in the table of estimates, and the map.
_ESTIMATES = {"F_mri": "F", "vCS_mri_um": "vCS", "D0I_mri_um2_ms": "D0I", "BIC": "BIC"}


@dataclass(frozen=True)
class Fitting:
    """What is fitted.

    Attributes
    ----------
    models, strategies : tuple of str
    snrs : tuple of float
        Signal over noise at b = 0; the noise is Rician.
    seed : int
        Of the noise.
    bic : {"schwarz", "paper"}
    left_out : frozenset of (protocol, strategy, model)
        Fits that a protocol has too few measurements for.
    """

    models: tuple[str, ...]
    strategies: tuple[str, ...]
    snrs: tuple[float, ...] = (30.0,)
    seed: int = 1
    bic: Bic = "schwarz"
    left_out: frozenset[tuple[str, str, str]] = frozenset()


def fit_walked(
    walked: list[Walked], permeabilities_um_s: tuple[float, ...], fitting: Fitting, progress: Progress | None = None
) -> pd.DataFrame:
    """Return a row per protocol, permeability, SNR, strategy, model and tissue: truth and estimates.

    The signal without diffusion weighting is known to be 1, and so is the noise level. All models and strategies see
    the same noise.
    """
    report, parts = share_of(progress), list[pd.DataFrame]()
    settings = list(product(range(len(walked)), range(len(permeabilities_um_s)), range(len(fitting.snrs))))
    for done, place in enumerate(settings, start=1):
        one, kappa, snr = walked[place[0]], permeabilities_um_s[place[1]], fitting.snrs[place[2]]
        rng = np.random.default_rng(np.random.SeedSequence(fitting.seed, spawn_key=place))
        noisy = add_rician(one.signals[place[1]], 1.0 / snr, rng)
        for strategy, model in product(fitting.strategies, fitting.models):
            if (one.scan.name, strategy, model) in fitting.left_out:
                continue
            setting = {"protocol": one.scan.name, "kappa_um_s": kappa, "snr": snr, "strategy": strategy, "model": model}
            estimates = _fit(one, noisy, snr, strategy, model, fitting.bic)
            truth = one.tissues.assign(tissue=np.arange(len(one.tissues)))
            parts.append(truth.assign(**estimates).assign(**setting))
        report(done / len(settings))
    table = pd.concat(parts, ignore_index=True)
    first = [*SETTING, *FIT, "tissue"]
    return table[[*first, *(name for name in table if name not in first)]]


def _fit(one: Walked, noisy: FloatArray, snr: float, strategy: str, model: str, bic: Bic) -> dict[str, FloatArray]:
    result = fit(
        noisy, one.scan.acquisition, model, sigma=1.0 / snr, strategy=strategy, s0=1.0, preset=one.scan.preset, bic=bic
    )
    return {column: result.maps[name] for column, name in _ESTIMATES.items()}
