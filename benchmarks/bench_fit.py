"""Speed and quality of the fit: voxels per second, and the objective against scipy in the same run.

Usage: python benchmarks/bench_fit.py [--quick]
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time

import numba
import numpy as np
import scipy
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from histomri.fitting import MODELS, Model, predict
from histomri.fitting.engine import Engine
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

PRESET = "mouse-exvivo"
SNR = 30


def protocol(model: str) -> Acquisition:
    """Ten measurements (TE 45 ms, both diffusion times, b > 1500) for Diff-in; else all 30 above b = 1000."""
    mouse = Acquisition.preset(PRESET)
    if model == "diff-in":
        return mouse.select((mouse.te_ms == 45) & (mouse.b_smm2 > 1500))
    return mouse.select(mouse.b_smm2 > 1000)


def simulate(model: Model, acquisition: Acquisition, count: int, snr: float | None, seed: int = 1) -> np.ndarray:
    """Signals of random parameters within the bounds."""
    rng = np.random.default_rng(seed)
    bounds = model.bounds(PRESET)
    signals = predict(model.name, {name: rng.uniform(*pair, count) for name, pair in bounds.items()}, acquisition)
    if snr is None:
        return signals
    noise = rng.standard_normal((2, *signals.shape)) / snr
    return np.hypot(signals + noise[0], noise[1])


class Straight:
    """The objective in plain numpy, for scipy."""

    def __init__(self, model: Model, acquisition: Acquisition) -> None:
        self.lower, self.upper = np.array(list(model.bounds(PRESET).values())).T
        encodings, self.index = acquisition.encodings()
        knots = np.arange(-7.5, 0.5, 0.005)
        self.tables = [CubicSpline(knots, relative_adc(np.exp(knots), each.waveform)) for each in encodings]
        self.slopes = [table.derivative() for table in self.tables]
        self.b, self.inverse = acquisition.b_smm2 / 1000, 1 / acquisition.Delta_ms

    def __call__(self, scaled: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and gradient at parameters scaled to [0, 1]."""
        width = self.upper - self.lower
        theta = self.lower + scaled * width
        rate = np.log(4 * theta[1] / theta[2] ** 2)
        value = np.array([table(rate) for table in self.tables])[self.index]
        slope = np.array([table(rate) for table in self.slopes])[self.index]
        inside = np.exp(-self.b * theta[1] * value)
        lost = -theta[0] * self.b * inside
        signal, rows = theta[0] * inside, [inside, lost * (value + slope), lost * -2 * theta[1] / theta[2] * slope]
        if theta.size > 3:
            outside = np.exp(-self.b * (theta[3] + (theta[4] if theta.size > 4 else 0.0) * self.inverse))
            gone = -(1 - theta[0]) * self.b * outside
            signal, rows[0] = signal + (1 - theta[0]) * outside, inside - outside
            rows += [gone, gone * self.inverse][: theta.size - 3]
        floor = np.hypot(signal, 1 / SNR)
        residual = (floor - y) * SNR
        return 0.5 * residual @ residual, (np.array(rows) @ (residual * signal / floor * SNR)) * width

    def value(self, theta: np.ndarray, y: np.ndarray) -> float:
        """Objective at parameters in their own units."""
        return self((theta - self.lower) / (self.upper - self.lower), y)[0]

    def multistart(self, y: np.ndarray, rng: np.random.Generator, starts: int) -> float:
        """Lowest objective of L-BFGS-B from random starts."""
        limits = [(0, 1)] * self.lower.size
        options = {"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8}
        return min(
            minimize(self, rng.uniform(0.02, 0.98, self.lower.size), args=(y,), jac=True, method="L-BFGS-B",
                     bounds=limits, options=options).fun
            for _ in range(starts)
        )  # fmt: skip

    def trust_constr(self, y: np.ndarray) -> float:
        """Objective after one run from the middle, without derivatives, as a plain script would do it."""
        limits = [(0, 1)] * self.lower.size
        middle = np.full(self.lower.size, 0.5)
        return minimize(lambda x: self(x, y)[0], middle, method="trust-constr", bounds=limits).fun


def start_up() -> tuple[float, float]:
    """Seconds from a fresh process to the first fit: compiling, and with the compiled code cached."""
    code = (
        "import numpy as np; from histomri.fitting import fit; from histomri.mri import Acquisition; "
        "fit(np.ones((1, 50)), Acquisition.preset('mouse-exvivo'), s0=1.0)"
    )
    times = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_CACHE_DIR": cache})
            times.append(time.perf_counter() - start)
    return times[0], times[1]


def row(model: Model, voxels: int, compared: int, straight: int) -> str:
    acquisition = protocol(model.name)
    engine = Engine.build(model, acquisition, model.bounds(PRESET))
    speeds = []
    for snr, noise in ((None, "none"), (SNR, "offset-gaussian")):
        signals = simulate(model, acquisition, voxels, snr)
        sigma = np.full(signals.shape, 1 / SNR)
        engine.run(signals[:64], sigma[:64], noise)
        start, cpu = time.perf_counter(), time.process_time()
        out = engine.run(signals, sigma, noise)
        speeds.append((voxels / (time.perf_counter() - start), voxels / (time.process_time() - cpu)))
    reference, rng = Straight(model, acquisition), np.random.default_rng(7)
    worse = 0
    for theta, y in zip(out[:compared, : reference.lower.size], signals[:compared]):
        worse += reference.value(theta, y) > reference.multistart(y, rng, 8) + 1e-3
    start = time.perf_counter()
    for y in signals[:straight]:
        reference.trust_constr(y)
    ratio = (time.perf_counter() - start) / straight * speeds[1][0]
    return (
        f"| {model.display_name} | {len(acquisition)} | {speeds[0][0]:,.0f} | {speeds[1][0]:,.0f} | "
        f"{2 * speeds[1][1]:,.0f} | {100 * (1 - worse / compared):.1f} % of {compared} | {ratio:,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer voxels; about a minute")
    quick = parser.parse_args().quick
    voxels, compared, straight = (5_000, 60, 3) if quick else (100_000, 1_000, 20)
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, numba {numba.__version__}"
    )
    cold, warm = start_up()
    print(f"first fit of a fresh process: {cold:.1f} s compiling, {warm:.1f} s with the cached kernels\n")
    print(
        "| model | measurements | voxels/s noise-free | voxels/s SNR 30 | twice per CPU second | "
        "objective not worse than multi-start L-BFGS-B | times faster than trust-constr |"
    )
    print("|---|---|---|---|---|---|---|")
    for model in MODELS.values():
        print(row(model, voxels, compared, straight), flush=True)


if __name__ == "__main__":
    main()
