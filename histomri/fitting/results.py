"""Results of a fit: maps over voxels, the settings that made them, and warnings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histomri.core.array_files import read_arrays
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.door import parse_json
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance
from histomri.fitting import PARAMETERS, Model, get_model, predict
from histomri.mri import Acquisition

if TYPE_CHECKING:
    import pandas as pd

    from histomri.fitting.tables import Engine

_WHAT = "result of a fit"
FITTED, AT_BOUND, BACKGROUND, FAILED = 1, 2, 0, -1
"""Exit codes."""
BIC_WEIGHTS = {"schwarz": 2.0, "paper": 1.0}
"""What ln λ is multiplied by in each definition of the BIC."""
MISFIT_P = 0.01
"""Below this p of χ² a voxel is taken for one that the model does not describe."""
Blood = tuple[FloatArray, FloatArray]
"""Vascular fraction of each voxel and its standard error, (V,); 0 where there is none."""


@dataclass(frozen=True, repr=False)
class FitResult(Displayed):
    """Maps of a fit of a model, its settings (strategy, b threshold, bounds, noise), and where it may be wrong.

    `maps` are (V,), by name: the parameters, F, CD, standard errors (``vCS_se``), cost, logL, BIC, AIC, exit. NaN where
    nothing was fitted; exit is 1 fitted, 2 a parameter is at its bound, 0 background, -1 failed.
    """

    model: str
    maps: dict[str, FloatArray]
    parameters: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model_declared: Model | None = field(default=None, repr=False, compare=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many voxels were fitted within bounds, fitted at a bound, background, and failed."""
        codes = self.maps["exit"]
        names = {"fitted": FITTED, "at_bound": AT_BOUND, "background": BACKGROUND, "failed": FAILED}
        return {name: int(np.count_nonzero(codes == code)) for name, code in names.items()}

    def facts(self) -> dict[str, Any]:
        """Return model, counts and the median of each parameter."""
        done = self.maps["exit"] > 0
        shown = self._estimates() if done.any() else []
        medians = {f"median {name}": f"{np.median(values[done]):.4g}" for name, values in shown}
        return {"model": self.model, **self.counts, **medians}

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with a row per voxel and a column per map."""
        import pandas as pd

        return pd.DataFrame(self.maps)

    def to_xarray(self, mask: BoolArray | None = None) -> Any:
        """Return the maps as an xarray Dataset over voxels, or over i, j, k where the mask (I, J, K) is given."""
        try:
            import xarray
        except ImportError as error:
            raise InputError("xarray is not installed", hint="pip install xarray") from error
        axes = ("voxel",) if mask is None else ("i", "j", "k")
        values = {name: (axes, _on_grid(map_, mask)) for name, map_ in self.maps.items()}
        return xarray.Dataset(values, attrs={"model": self.model})

    def plot(self, mask: BoolArray | None = None) -> Any:
        """Draw each parameter: its histogram, or the middle slice of its map where the mask (I, J, K) is given."""
        from matplotlib.figure import Figure

        shown = self._estimates()
        figure = Figure(figsize=(3.2 * len(shown), 2.8), layout="constrained")
        for axis, (name, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
            axis.set_title(name)
            if mask is None:
                some = values[np.isfinite(values)]
                low, high = (some.min(), some.max()) if some.size else (0.0, 1.0)
                axis.hist(some, bins=40, range=(low, max(high, low + 1e-6 * max(abs(low), 1.0))))
            else:
                grid = _on_grid(values, mask)
                drawn = axis.imshow(grid[:, :, grid.shape[2] // 2].T, origin="lower")
                figure.colorbar(drawn, ax=axis)
        return figure

    def _estimates(self) -> list[tuple[str, FloatArray]]:
        names = ("F", *PARAMETERS, "CD", "ADC", "K", "S0", "fV", "T2T", *self.parameters.get("bounds", ()))
        return [(name, self.maps[name]) for name in dict.fromkeys(names) if name in self.maps]

    def save(self, path: str | Path) -> Path:
        """Write maps, settings and warnings to one .npz file, without pickle."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError("a result of a fit is saved as .npz", path=path, hint="give a name ending in .npz")
        record = {"model": self.model, "parameters": self.parameters, "warnings": list(self.warnings)}
        record["GeneratedBy"] = provenance()["GeneratedBy"]
        arrays = {f"map_{name}": values for name, values in self.maps.items()}
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, record=np.array(json.dumps(record, default=_plain)), **arrays)  # type: ignore[arg-type]
        return path

    @classmethod
    def load(cls, path: str | Path) -> "FitResult":
        """Read what `save` wrote; InputError if the file is damaged, or no result of a fit."""
        arrays = read_arrays(path, _WHAT, "is no saved result of a fit, or is damaged ({})")
        record = parse_json(str(arrays.pop("record", "")), path) if "record" in arrays else None
        kinds = {"model": str, "parameters": dict, "warnings": list}
        if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
            raise InputError("is no saved result of a fit, or is damaged", path=path)
        maps = {name.removeprefix("map_"): values for name, values in arrays.items()}
        if any(values.ndim != 1 or values.dtype.kind not in "iuf" for values in maps.values()) or "exit" not in maps:
            raise InputError("is no saved result of a fit: its maps are no lists of numbers", path=path)
        return cls(record["model"], maps, record["parameters"], tuple(map(str, record["warnings"])))

    def predict(self, acquisition: Acquisition) -> FloatArray:
        """Return the fitted model's normalised signals on any protocol, (V, M); NaN where nothing was fitted.

        Those of a model that fits the level S0 are in its units, and not normalised.
        """
        declared = self.model_declared or get_model(self.model)
        good = self.maps["exit"] > 0
        signals = np.full((good.size, len(acquisition)), np.nan)
        chosen = {name: self.maps[name][good] for name in declared.names if name in self.maps}
        signals[good] = predict(declared, chosen, acquisition)
        return signals


def _on_grid(values: FloatArray, mask: BoolArray | None) -> FloatArray:
    """Return values (V,) as they are, or on the grid of a mask with V voxels."""
    if mask is None:
        return values
    if np.ndim(mask) != 3 or np.count_nonzero(mask) != values.size:
        raise InputError(f"the mask has {np.count_nonzero(mask)} voxels, and the fit {values.size}")
    grid = np.full(np.shape(mask), np.nan)
    grid[np.asarray(mask, dtype=bool)] = values
    return grid


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.tolist()


def maps_from(
    out: FloatArray, engine: "Engine", blood: Blood, likelihood: FloatArray, measurements: int, bic: str
) -> dict[str, FloatArray]:
    """Turn the columns of `Engine.run`, (V, `columns`), into named maps; F = (1 - fV) fI."""
    names, n, free = engine.names, len(engine.names), engine.model.parameters
    maps: dict[str, FloatArray] = {name: out[:, i] for i, name in enumerate(names) if name is not None}
    maps |= {f"{name}_se": out[:, n + i] for i, name in enumerate(names) if name in free}
    f, size = engine.pair
    if f >= 0:
        maps |= derived(out[:, f], out[:, n + f], blood, out[:, size], out[:, n + size], out[:, 2 * n + 2])
    maps |= criteria(out[:, 2 * n], likelihood, len(free), measurements, bic)
    return maps | {"exit": out[:, 2 * n + 1]}


def derived(
    f: FloatArray, f_se: FloatArray, blood: Blood, size: FloatArray | None = None,
    size_se: FloatArray | None = None, covariance: FloatArray | None = None,
) -> dict[str, FloatArray]:  # fmt: skip
    """Return F and, of spheres of a size, CD, with standard errors.

    Errors are propagated to first order, with the covariance of fI and size. That of fV is taken as independent of
    both: repeated scans scatter within 20 % of the result, where leaving it out falls short by a quarter.
    """
    kept, lost = 1 - blood[0], f * blood[1]
    maps = {"F": kept * f, "F_se": np.hypot(kept * f_se, lost)}
    if size is None or size_se is None or covariance is None:
        return maps
    with np.errstate(invalid="ignore"):
        variance = f_se**2 + (3 * f / size * size_se) ** 2 - 6 * f / size * covariance
        spread = np.sqrt(kept**2 * np.maximum(variance, 0.0) + lost**2)
    density = {"CD": 1e9 * maps["F"] / size**3, "CD_se": 1e9 / size**3 * spread}
    return maps | density | {name.replace("CD", "CDsphere"): 6 / np.pi * values for name, values in density.items()}


def number_density(maps: Mapping[str, FloatArray], cv: float, cv_se: float = 0.0) -> dict[str, FloatArray]:
    """Return the number of cells per volume, ``cellNV`` (1/mm³), and its error, where diameters scatter by a known CV.

    vCS weighs large cells more: of lognormal diameters, vCS³ is (1 + CV²)^10.5 times the mean cube. Where that is not
    allowed for, a perfect fit counts 65 % of the cells at a CV of 0.2.

    Parameters
    ----------
    maps : mapping of str to (V,) ndarray
        With CDsphere, and CDsphere_se where there is one.
    cv, cv_se : float
        Standard deviation of the diameters over their mean, from histology, and its standard error.

    Examples
    --------
    >>> number_density({"CDsphere": np.array([1e5])}, 0.2)["cellNV"].round()
    array([150956.])
    """
    factor = (1 + cv**2) ** 10.5
    found = {"cellNV": factor * maps["CDsphere"]}
    if "CDsphere_se" in maps:
        relative = 21 * cv / (1 + cv**2) * cv_se
        found["cellNV_se"] = np.hypot(factor * maps["CDsphere_se"], relative * found["cellNV"])
    return found


def count_cells(result: FitResult, size_cv: tuple[float, ...]) -> None:
    """Add the number of cells per volume to the maps of a fit, where the CV of diameters is known."""
    if size_cv and "CDsphere" in result.maps:
        result.maps.update(number_density(result.maps, *size_cv))
        result.parameters["size_cv"] = list(size_cv)


def criteria(
    cost: FloatArray, likelihood: FloatArray, parameters: int, measurements: int, bic: str
) -> dict[str, FloatArray]:
    """Return objective, log-likelihood and information criteria."""
    schwarz = parameters * np.log(measurements) - BIC_WEIGHTS[bic] * likelihood
    return {"cost": cost, "logL": likelihood, "BIC": schwarz, "AIC": 2 * parameters - 2 * likelihood}


def bound_warnings(
    counts: Mapping[str, int], title: str, maps: Mapping[str, FloatArray] | None = None
) -> tuple[str, ...]:
    """Warn when many voxels are at a bound, or failed; with maps that hold pMisfit, say what share is misfit."""
    why = "signal not finite, no signal to normalise by, or a noise level that is not positive"
    failures = failure_warnings(counts, title, why)
    done, held = counts["fitted"] + counts["at_bound"], counts["at_bound"]
    if not held > 0.5 * done:
        return failures
    often = f"in {100 * held / done:.0f} % of the fitted voxels a parameter is at its bound"
    due = ""
    if maps is not None and "pMisfit" in maps:
        poor = (maps["pMisfit"] < MISFIT_P) & ~(maps.get("dropped", np.zeros(maps["exit"].size)) > 0)
        share = np.mean(poor[maps["exit"] == AT_BOUND])
        due = f"; in {100 * share:.0f} % of these the model does not describe the signals (χ², p < {MISFIT_P:g})"
    return (f"{title}: {often}, so the data do not determine it there{due}", *failures)


def failure_warnings(counts: Mapping[str, int], title: str, why: str) -> tuple[str, ...]:
    """Warn of voxels that could not be fitted."""
    failed = f"{title}: {counts['failed']} voxels could not be fitted ({why}); they are NaN, exit -1"
    none = f"{title}: no voxel was fitted"
    return ((failed,) if counts["failed"] else ()) + ((none,) if not counts["fitted"] + counts["at_bound"] else ())
