"""An independent optimiser to compare the engine with: scipy from many starts, on its own tables."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from histomri.fitting import get_model
from histomri.fitting.signals import relative_adc


class Reference:
    """Objective of a model in numpy with analytic gradient, and L-BFGS-B from random starts."""

    def __init__(self, model, acquisition, preset="mouse-exvivo"):
        bounds = get_model(model).bounds(preset)
        self.lower, self.upper = np.array(list(bounds.values())).T
        encodings, self.index = acquisition.encodings()
        knots = np.arange(-7.5, 0.5, 0.005)
        self.tables = [CubicSpline(knots, relative_adc(np.exp(knots), each.waveform)) for each in encodings]
        self.slopes = [table.derivative() for table in self.tables]
        self.b, self.inverse = acquisition.b_smm2 / 1000, 1 / acquisition.Delta_ms

    def signal(self, theta):
        fraction, d0, size = theta[:3]
        rate = np.log(4 * d0 / size**2)
        value = np.array([table(rate) for table in self.tables])[self.index]
        slope = np.array([table(rate) for table in self.slopes])[self.index]
        inside = np.exp(-self.b * d0 * value)
        lost = -fraction * self.b * inside
        signal = fraction * inside
        jacobian = [inside, lost * (value + slope), lost * -2 * d0 / size * slope]
        if len(theta) > 3:
            outside = np.exp(-self.b * (theta[3] + (theta[4] if len(theta) > 4 else 0.0) * self.inverse))
            gone = -(1 - fraction) * self.b * outside
            signal, jacobian[0] = signal + (1 - fraction) * outside, inside - outside
            jacobian += [gone, gone * self.inverse][: len(theta) - 3]
        return signal, np.array(jacobian)

    def objective(self, scaled, y, sigma):
        """Objective of parameters scaled to [0, 1], with gradient: half of chi², or 1e4 times the sum of squares."""
        width = self.upper - self.lower
        signal, jacobian = self.signal(self.lower + scaled * width)
        if sigma is None:
            residual = signal - y
            return 1e4 * residual @ residual, 2e4 * (jacobian @ residual) * width
        floor = np.hypot(signal, sigma)
        residual = (floor - y) / sigma
        return 0.5 * residual @ residual, (jacobian @ (residual * signal / floor / sigma)) * width

    def value(self, theta, y, sigma):
        return self.objective((theta - self.lower) / (self.upper - self.lower), y, sigma)[0]

    def best(self, y, sigma, rng, starts=8):
        results = [
            minimize(
                self.objective, rng.uniform(0.02, 0.98, self.lower.size), args=(y, sigma), jac=True, method="L-BFGS-B",
                bounds=[(0, 1)] * self.lower.size, options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
            )
            for _ in range(starts)
        ]  # fmt: skip
        return min(result.fun for result in results)


@pytest.fixture
def reference_fit():
    return Reference
