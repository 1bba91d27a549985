"""A Gaussian prior learnt from the voxels of a tissue by EM: what it does to errors, intervals and correlations.

Usage: python benchmarks/bench_prior.py

Diff-in-ex at 3 T and 1.5 T, SNR 30, b above 100 s/mm², 100 voxels of a tissue of walked spheres of one permeability
up to 10 µm/s, of which vCS, F, both or neither varies. ML is the fit; `flat` the posterior mean with all values between
the bounds equally likely; `EM` the posterior mean with a Gaussian over the logits within the bounds, whose mean and
covariance are those of the posteriors of all voxels. All three see the same signals. Not part of histomri: see
docs/fitting.md.
"""

import numpy as np
from bench_models import NEVER, SNR
from machine import describe
from scipy.stats import qmc

from histomri.fitting import MODELS, fit, predict
from histomri.mri import Acquisition
from histomri.simulation.library import PackedTissue, walked_signals

VOXELS, REPEATS, POINTS, ROUNDS, NARROWEST = 100, 12, 2**15, 25, 0.25
KINDS = {"homogeneous": (0, 0), "F varies": (0, 1), "vCS varies": (1, 0), "both vary": (1, 1)}


def tissue(size_varies: bool, f_varies: bool, rng: np.random.Generator) -> PackedTissue:
    """Return the voxels of a tissue."""

    def drawn(low: float, high: float, varies: bool) -> np.ndarray:
        return rng.uniform(low, high, VOXELS) if varies else np.full(VOXELS, rng.uniform(low, high))

    return PackedTissue(
        drawn(0.2, 0.6, f_varies), drawn(0.1, 0.3, False), drawn(11, 25, size_varies), drawn(1, 2, False),
        drawn(1.6, 2.8, False), drawn(0, 10, False), NEVER, NEVER,
    )  # fmt: skip


class Library:
    """Points all over the bounds with their signals, and how likely each makes a voxel."""

    def __init__(self, acquisition: Acquisition, preset: str) -> None:
        bounds = MODELS["diff-in-ex"].bounds(preset)
        low, high = np.array(list(bounds.values())).T
        share = np.clip(qmc.Sobol(len(bounds), seed=1).random(POINTS), 1e-4, 1 - 1e-4)
        self.names, self.values = list(bounds), low + (high - low) * share
        self.logit, self.density = np.log(share / (1 - share)), np.log(share * (1 - share)).sum(axis=1)
        self.used = (acquisition.b_smm2 > 100) & ~acquisition.is_b0
        self.signals = np.hypot(predict("diff-in-ex", dict(zip(self.names, self.values.T)), acquisition), 1 / SNR)

    def likelihood(self, measured: np.ndarray) -> np.ndarray:
        """Return the logarithm of the likelihood of every point for every voxel, but for a constant."""
        y, s = measured[:, self.used], self.signals[:, self.used]
        return (y @ s.T - 0.5 * (s**2).sum(axis=1)) * SNR**2

    def learnt(self, likelihood: np.ndarray) -> np.ndarray:
        """Return the weights of the points for each voxel under the prior that EM learns."""
        z = self.logit
        mean, covariance = np.zeros(z.shape[1]), 3.29 * np.eye(z.shape[1])  # of a uniform share
        for _ in range(ROUNDS):
            away = z - mean
            prior = -0.5 * np.einsum("ki,ij,kj->k", away, np.linalg.inv(covariance), away) - self.density
            weights = weighted(likelihood + prior)
            total = weights.mean(axis=0)
            mean = total @ z
            covariance = ((z - mean) * total[:, None]).T @ (z - mean)
            covariance += np.eye(len(mean)) * max(0.0, NARROWEST**2 - np.linalg.eigvalsh(covariance)[0])
        return weights

    def summary(self, weights: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the posterior mean and the ends of the 95 % interval of a parameter, by voxel."""
        values = self.values[:, self.names.index(name)]
        order = np.argsort(values)
        below = np.cumsum(weights[:, order], axis=1)
        low, high = (values[order][np.minimum((below < p).sum(axis=1), POINTS - 1)] for p in (0.025, 0.975))
        return weights @ values, low, high


def weighted(logarithm: np.ndarray) -> np.ndarray:
    weights = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def main() -> None:
    print(describe("numba"))
    for preset in ("invivo-3t", "invivo-1.5t"):
        acquisition, rng = Acquisition.preset(preset), np.random.default_rng(1)
        library = Library(acquisition, preset)
        head = "tissue | method | rms vCS, µm | bias | rms F | bias | 95 % hold vCS | F | at a bound | r of both (true)"
        print(f"\n{preset}\n\n| {head} |\n|{'---|' * 10}")
        for kind, varies in KINDS.items():
            rows: dict[str, list[list[float]]] = {"ML": [], "flat": [], "EM": []}
            for _ in range(REPEATS):
                truth = tissue(*map(bool, varies), rng)
                clean = walked_signals(truth, acquisition)
                noise = rng.standard_normal((2, *clean.shape)) / SNR
                measured = np.hypot(clean + noise[0], noise[1])
                found = fit(measured, acquisition, preset=preset, model="diff-in-ex", sigma=1 / SNR, s0=1.0,
                            bmin_smm2=100, robust="none").maps  # fmt: skip
                likelihood = library.likelihood(measured)
                both, ways = {}, {"flat": weighted(likelihood), "EM": library.learnt(likelihood)}
                for name in ("vCS", "fI"):
                    error = 1.96 * found[f"{name}_se"]
                    both[name] = {"ML": (found[name], found[name] - error, found[name] + error)}
                    for method, weights in ways.items():
                        both[name][method] = library.summary(weights, name)
                for method, row in rows.items():
                    row.append(judged(both["vCS"][method], both["fI"][method], truth, found["exit"]))
            for method, row in rows.items():
                a = np.nanmean(row, axis=0)
                bound = f"{a[6]:.0%}" if method == "ML" else ""
                print(
                    f"| {kind} | {method} | {a[0]:.1f} | {a[1]:+.1f} | {a[2]:.2f} | {a[3]:+.2f} | {a[4]:.0%} | "
                    f"{a[5]:.0%} | {bound} | {a[7]:+.2f} ({a[8]:+.2f}) |", flush=True,
                )  # fmt: skip


def judged(size: tuple, f: tuple, truth: PackedTissue, codes: np.ndarray) -> list[float]:
    """Return errors, shares held by intervals where there is one, share at a bound, and correlations of the maps."""
    row: list[float] = []
    for estimate, true in ((size[0], truth.vcs_um), (f[0], truth.fraction)):
        row += [float(np.sqrt(np.mean((estimate - true) ** 2))), float(np.mean(estimate - true))]
    for (_, low, high), true in ((size, truth.vcs_um), (f, truth.fraction)):
        known = np.isfinite(low) & np.isfinite(high)
        row.append(float(np.mean(((true >= low) & (true <= high))[known])) if known.any() else np.nan)
    row.append(float(np.mean(codes == 2)))
    both = np.ptp(truth.vcs_um) > 0 and np.ptp(truth.fraction) > 0
    true_r = float(np.corrcoef(truth.vcs_um, truth.fraction)[0, 1]) if both else 0.0
    return [*row, float(np.corrcoef(size[0], f[0])[0, 1]), true_r]


if __name__ == "__main__":
    main()
