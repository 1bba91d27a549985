"""The fit as a plain script would do it, to compare with: the objective in numpy, and scipy's optimisers on it."""

import warnings

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from histomri.fitting import MODELS, Model, predict
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

PRESET, SNR = "mouse-exvivo", 30


def protocol(model: str) -> Acquisition:
    """Ten measurements (TE 45 ms, both diffusion times, b > 1500) for Diff-in; else all 30 above b = 1000."""
    mouse = Acquisition.preset(PRESET)
    if model == "diff-in":
        return mouse.select((mouse.te_ms == 45) & (mouse.b_smm2 > 1500))
    return mouse.select(mouse.b_smm2 > 1000)


def simulate(model: Model, acquisition: Acquisition, count: int, snr: float | None, seed: int = 1) -> np.ndarray:
    """Signals of random parameters within the bounds, with Rician noise."""
    rng = np.random.default_rng(seed)
    truth = {name: rng.uniform(*pair, count) for name, pair in model.bounds(PRESET).items()}
    signals = predict(model.name, truth, acquisition)
    if snr is None:
        return signals
    noise = rng.standard_normal((2, *signals.shape)) / snr
    return np.hypot(signals + noise[0], noise[1])


class Straight:
    """A model on a protocol; parameters are scaled to [0, 1]."""

    def __init__(self, model: Model, acquisition: Acquisition) -> None:
        self.lower, self.upper = np.array(list(MODELS[model.name].bounds(PRESET).values())).T
        encodings, self.index = acquisition.encodings()
        knots = np.arange(-7.5, 0.5, 0.005)
        self.tables = [CubicSpline(knots, relative_adc(np.exp(knots), each.waveform)) for each in encodings]
        self.b, self.inverse = acquisition.b_smm2 / 1000, 1 / acquisition.Delta_ms

    def signals(self, scaled: np.ndarray) -> np.ndarray:
        """Signals (V, M) of parameters (V, P)."""
        f, d0, size, *outer = np.moveaxis(self.lower + scaled * (self.upper - self.lower), -1, 0)[..., None]
        rate = np.log(4 * d0[..., 0] / size[..., 0] ** 2)
        adc = d0 * np.stack([table(rate) for table in self.tables], axis=-1)[..., self.index]
        result = f * np.exp(-self.b * adc)
        if outer:
            de = outer[0] + (outer[1] * self.inverse if len(outer) > 1 else 0.0)
            result = result + (1 - f) * np.exp(-self.b * de)
        return result

    def objective(self, scaled: np.ndarray, y: np.ndarray) -> float:
        """Offset-Gaussian objective of one voxel."""
        return 0.5 * float((((np.hypot(self.signals(scaled), 1 / SNR) - y) * SNR) ** 2).sum())

    def trust_constr(self, y: np.ndarray) -> float:
        """Objective after one run of trust-constr from the middle of the bounds, without derivatives."""
        middle, limits = np.full(self.lower.size, 0.5), [(0, 1)] * self.lower.size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its quasi-Newton updates
            return float(minimize(self.objective, middle, args=(y,), method="trust-constr", bounds=limits).fun)
