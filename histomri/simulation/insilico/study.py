"""The in-silico study as a whole: walks, noise, fits, scores, claims, and what is written of them."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.files import atomic_path, provenance, require_folder, write_json
from histomri.core.options import plain
from histomri.core.presets import names_preset
from histomri.core.progress import Progress, share_of
from histomri.mri import protocol_files
from histomri.simulation.options import InsilicoOptions
from histomri.simulation.write import write_csv

from .adc_time import adc_over_time
from .checks import check_gradients, check_variation, check_walkers, choose_fits
from .claims import Claim, claims_table, judge_claims
from .design import PRESETS, Design, Scan, read_scans
from .fits import Fitting, fit_walked
from .scores import Score, score_estimates, tables
from .walks import Walked, Walking, walk_design

RECORD = "insilico.json"
# Of the progress: when the walks are done, and when the fits are.
_WALKED, _FITTED = 0.85, 0.95
_LARGE_ERROR = 0.01  # of a signal; the noise at SNR 30 is 0.033
INTERVALS = (
    "Intervals of 95 % come from 1000 resamples of the tissues, the same for all fits. They include the noise, the "
    "error of the walks and the choice among tissues of this kind. They do not include that all tissues are equal "
    "spheres on a cubic lattice with one size, no relaxation, a known noise level and a known signal at b = 0."
)


@dataclass(frozen=True)
class InsilicoStudy:
    """An in-silico study that is finished.

    Attributes
    ----------
    folder : Path
    walked : list of Walked
        Signals of each protocol without noise, with the truth.
    estimates : DataFrame
        A row per protocol, permeability, SNR, strategy, model and tissue.
    scores : list of Score
    claims : list of Claim
    warnings : tuple of str
    outputs : tuple of Path
        The files written.
    """

    folder: Path
    walked: list[Walked]
    estimates: pd.DataFrame
    scores: list[Score]
    claims: list[Claim]
    warnings: tuple[str, ...]
    outputs: tuple[Path, ...]


def run_insilico(options: InsilicoOptions, out: str | Path, progress: Progress | None = None) -> InsilicoStudy:
    """Walk, add noise, fit, score, judge the claims of the source paper, and write all of it to a folder.

    Walks are kept in ``walks/`` there, and a study that was stopped, or one with other noise or models, takes them up.

    Parameters
    ----------
    options : InsilicoOptions
    out : path-like
        Folder; made if missing.
    progress : callable, optional
        Called with the fraction done.

    Raises
    ------
    InputError
        Before the walks, if a protocol, the tissues, the number of walkers or the fits asked for are impossible.
    """
    started = (time.perf_counter(), time.process_time())
    folder = require_folder(out)
    scans, design = read_scans(options.protocols, options.bounds_of), design_of(options)
    check_variation(design)
    check_gradients(scans)
    fits = choose_fits(scans, options.models, options.strategies)
    walking = Walking(options.walkers, options.seed, options.fine)
    if options.standard_error is not None:
        check_walkers(design, scans, walking, options.standard_error, options.jobs)
    walks = folder / "walks"
    walked = walk_design(
        design, scans, walks, walking, jobs=options.jobs, progress=share_of(progress, 0.0, _WALKED)
    )  # fmt: skip
    adc = adc_over_time(design, scans[0].bounds, walks, walking, jobs=options.jobs)
    fitting = Fitting(
        tuple(dict.fromkeys(options.models)), tuple(dict.fromkeys(options.strategies)),
        tuple(dict.fromkeys(options.snr)), options.seed, options.bic, fits.left_out,
    )  # fmt: skip
    estimates = fit_walked(walked, design.permeabilities_um_s, fitting, share_of(progress, _WALKED, _FITTED))
    scores = score_estimates(estimates, options.seed)
    claims = judge_claims(scores)
    warnings = (*_bounds_warnings(options, scans), *fits.warnings, *_error_warnings(walked))
    warnings += tuple(_failed_warnings(estimates, scores))
    study = InsilicoStudy(folder, walked, estimates, scores, claims, warnings, ())
    outputs = [*_write_tables(study, adc), *(path for one in walked for path in _write_signals(folder, one, design))]
    used = {"WallSeconds": time.perf_counter() - started[0], "CpuSeconds": time.process_time() - started[1]}
    outputs.append(write_json(folder / RECORD, _record(options, scans, design, study, used)))
    share_of(progress)(1.0)
    return replace(study, outputs=tuple(outputs))


def design_of(options: InsilicoOptions) -> Design:
    """Return the design of the preset, with what the options put in its place."""
    preset = PRESETS[options.preset]
    return Design(
        options.fractions or preset.fractions, options.diameters_um or preset.diameters_um,
        options.kappa or preset.permeabilities_um_s, options.diffusivities or preset.diffusivities,
    )  # fmt: skip


def _bounds_warnings(options: InsilicoOptions, scans: tuple[Scan, ...]) -> Iterator[str]:
    """Warn of bounds that nobody chose."""
    for scan, protocol in zip(scans, options.protocols):
        if options.bounds_of is None and not names_preset(protocol):
            yield f"{scan.name}: no --bounds-of was given, so {scan.preset} sets bounds and b thresholds"


def _error_warnings(walked: list[Walked]) -> Iterator[str]:
    for one in walked:
        largest = float(one.standard_error.max())
        if largest > _LARGE_ERROR:
            text = f"standard errors of the walked signals are up to {largest:.2g}; give more --walkers"
            yield f"{one.scan.name}: {text}"


def _failed_warnings(estimates: pd.DataFrame, scores: list[Score]) -> Iterator[str]:
    tissues = estimates.groupby("protocol")["tissue"].nunique()
    lost = {(one.setting, int(tissues[one.setting[0]] - one.row["n"])) for one in scores}
    for (protocol, kappa, snr), count in sorted(lost):
        if count:
            yield f"{protocol}, κ {kappa:g} µm/s, SNR {snr:g}: {count} tissues could not be fitted by every model"


def _write_tables(study: InsilicoStudy, adc: pd.DataFrame) -> Iterator[Path]:
    for name, table in tables(study.scores).items():
        yield write_csv(study.folder / f"{name}.csv", table)
    yield write_csv(study.folder / "claims.csv", claims_table(study.claims))
    yield write_csv(study.folder / "adc_time.csv", adc)
    with atomic_path(path := study.folder / "estimates.parquet") as part:
        study.estimates.to_parquet(part, index=False)
    yield path


def _write_signals(folder: Path, one: Walked, design: Design) -> Iterator[Path]:
    """Write signals and their errors, a row for each permeability and tissue, and the table of these rows."""
    kappas, tissues = design.permeabilities_um_s, len(one.tissues)
    rows = pd.concat([one.tissues.assign(kappa_um_s=kappa) for kappa in kappas], ignore_index=True)
    yield write_csv(
        folder / f"tissues_{one.scan.name}.csv", rows.assign(effective_share=one.share.reshape(-1)), "%.9g"
    )  # fmt: skip
    for name, values in (("signals", one.signals), ("standard_error", one.standard_error)):
        with atomic_path(path := folder / f"{name}_{one.scan.name}.npy") as part:
            np.save(part, values.reshape(len(kappas) * tissues, -1), allow_pickle=False)
        yield path


def _record(
    options: InsilicoOptions, scans: tuple[Scan, ...], design: Design, study: InsilicoStudy, used: dict[str, float]
) -> dict[str, Any]:
    """Return what is written of the study as a whole."""
    about = [
        {
            "Name": scan.name, "Volumes": len(scan.acquisition), "LargestB_smm2": float(scan.acquisition.b_smm2.max()),
            "BoundsOf": scan.preset, "D0I_um2_ms": scan.bounds[0], "D0E_um2_ms": scan.bounds[1],
            "Tissues": len(design.tissues(scan.bounds)),
        }
        for scan in scans
    ]  # fmt: skip
    walks = [
        {
            "protocol": one.scan.name, "kappa_um_s": kappa, "smallest_effective_share": float(share.min()),
            "largest_standard_error": float(error.max()),
        }
        for one in study.walked
        for kappa, share, error in zip(design.permeabilities_um_s, one.share, one.standard_error)
    ]  # fmt: skip
    files = [path for protocol in options.protocols for path in protocol_files(protocol)]
    return {
        **provenance(files, plain(dict(options), lambda path: path.name)), "Seed": options.seed,
        "Design": asdict(design), "Protocols": about, "Walks": walks, "Intervals": INTERVALS,
        "Warnings": study.warnings, **used,
    }  # fmt: skip
