"""How often, how well and how fast sections are registered: synthetic pairs with exact truth.

Run ``python benchmarks/bench_registration.py [N] [--kind affine|bspline|similarity] [--level easy|standard|hard]
[--drive outline|both] [--landmarks N] [--slices] [--livers] [--null] [--wrong]``; histomri/simulation/section_pairs.py
says what the pairs are.
Success: the median error of the mapped tissue points is below one MRI pixel. The seeds begin at 50000: development and
calibration used smaller ones.
"""

import argparse
import time

import numpy as np
from content_engine import ContentEngine

from histomri.core.images import Image
from histomri.mri import Acquisition
from histomri.patches import PatchGrid
from histomri.registration import register
from histomri.simulation import LiverPhantom, simulate_liver
from histomri.simulation.section_pairs import LEVELS, PIXEL, make_pair, make_stack


def run(level: str, seeds: range, *, verbose: bool = False, landmarks: int = 0, **options) -> dict[str, float]:
    """Register pairs and return what came of it."""
    rows, errors = [], []
    for seed in seeds:
        pair = make_pair(seed, LEVELS[level])
        ContentEngine.maps = pair.maps
        start = time.perf_counter()
        found = register(
            pair.moving,
            pair.fixed,
            moving_mask=pair.moving_mask,
            landmarks=_clicked(pair, seed, landmarks),
            **options,
        )
        seconds = time.perf_counter() - start
        error = 1000 * np.linalg.norm(found.points(pair.points_moving) - pair.points_fixed, axis=1)
        errors.append(error)
        right = found.qc["turned_over"] == pair.flipped and _turned(found, pair) < 25
        rows.append((np.median(error), np.percentile(error, 95), seconds, right, found.verdict, found.qc["gap"]))
        if verbose:
            told = {name: round(found.qc[name], 3) for name in ("agreement", "gap", "size", "stretch")}
            print(seed, *(round(value) for value in rows[-1][:2]), right, found.verdict, told, flush=True)
    median, tail, seconds, right, verdict, _ = (np.array(column) for column in zip(*rows, strict=True))
    good = verdict == "good"
    return {
        "n": len(median),
        "success %": 100 * np.mean(median < 1000 * PIXEL),
        "median um": float(np.median(median)),
        "95 % of points um": float(np.median(tail)),
        "95 % of all points um": float(np.percentile(np.concatenate(errors), 95)),
        "orientation %": 100 * right.mean(),
        "s per pair": float(np.median(seconds)),
        "called good %": 100 * good.mean(),
        # Right: what is called good lies within two pixels, and what does not is not called good.
        "verdict right %": 100 * np.mean(good == (median < 2000 * PIXEL)),
        "worst called good um": float(median[good].max(initial=0)),
    }


def run_slices(level: str, seeds: range, **options) -> dict[str, float]:
    """Return how often the right one of five slices, 1 mm apart, is found, and whether the verdict knows."""
    rows = []
    for seed in seeds:
        pair, stack, right = make_stack(seed, LEVELS[level])
        ContentEngine.maps = pair.maps
        found = register(pair.moving, stack, moving_mask=pair.moving_mask, **options)
        away = abs(stack.affine[2, 2] * found.slice + stack.affine[2, 3] - pair.off_mm)
        rows.append((abs(found.slice - right), away, _slice_is_doubted(found)))
    return _told(rows)


def run_livers(_: str, seeds: range, **options) -> dict[str, float]:
    """Return the same for the livers of `histomri demo`: slices of 2.2 mm that mix with fluid at the edge."""
    rows = []
    for seed in seeds:
        section, liver = make_liver(seed)
        mri = Image(liver.dwi[..., 0], liver.affine)
        found = register(section, mri, fixed_mask=Image(liver.mask.astype(float), liver.affine), **options)
        away = abs(liver.scan.index(np.array([[0.0, 0.0, liver.section.offset_mm]]))[0, 2] - found.slice)
        rows.append((round(away), away * np.linalg.norm(liver.affine[:3, 2]), _slice_is_doubted(found)))
    return _told(rows)


def make_liver(seed: int, patch_um: float = 386.0) -> tuple[Image, LiverPhantom]:
    """Return the map of F of a small simulated liver, and the liver."""
    only = Acquisition.preset("mouse-exvivo").select([0])
    liver = simulate_liver(
        seed=seed, area_mm2=60, snr=30, flipped=seed % 2 == 1, orientation=seed % 4, acquisition=only, physics="simple"
    )
    cells = liver.cells
    edges = [np.arange(0, cells[axis].max() + patch_um, patch_um) for axis in ("y_um", "x_um")]
    area = np.histogram2d(cells["y_um"], cells["x_um"], edges, weights=cells["area_um2"])[0] / patch_um**2
    grid = PatchGrid((0.0, 0.0), (patch_um, patch_um), area.shape)
    return Image(np.where(area > 0, area, np.nan), grid.affine), liver


def _slice_is_doubted(found):
    return any("fits nearly as well as slice" in reason for reason in found.qc["reasons"])


def _told(rows):
    off, away, doubted = (np.array(column) for column in zip(*rows, strict=True))
    # Wrong: another slice is nearer, and this one further from the cut than two pixels, the same limit as in the plane.
    wrong = (off > 0) & (away > 2 * PIXEL)
    return {
        "n": len(off),
        "right slice %": 100 * np.mean(off == 0),
        "within one %": 100 * np.mean(off <= 1),
        "slice doubted %": 100 * doubted.mean(),
        "wrong %": 100 * np.mean(wrong),
        "wrong without doubt %": 100 * np.mean(wrong & ~doubted),
    }


def run_null(level: str, seeds: range, **options) -> dict[str, float]:
    """Return how strongly maps and MRI seem related where they are not, at the true alignment and at the found one."""
    rows = []
    for seed in seeds:
        pair = make_pair(seed, LEVELS[level], related=False)
        ContentEngine.maps = pair.maps
        found = register(pair.moving, pair.fixed, moving_mask=pair.moving_mask, **options)
        at_truth = related(pair.aligned, pair.fixed.data)
        there = related(np.stack([found.resample(each, pair.fixed).data for each in pair.maps]), pair.fixed.data)
        rows.append((*at_truth, *there))
    r_true, share_true, r_found, share_found = np.mean(rows, axis=0)
    return {"n": len(rows), "r truth": r_true, "r found": r_found, "R2 truth": share_true, "R2 found": share_found}


def run_wrong(level: str, seeds: range, **options) -> dict[str, float]:
    """Return how often a match is called good that cannot be: another organ's MRI, or the side that is not up."""
    other, side = [], []
    for seed in seeds:
        pair, strange = make_pair(seed, LEVELS[level]), make_pair(seed + 100_000, LEVELS[level])
        options["moving_mask"] = pair.moving_mask
        other.append(register(pair.moving, strange.fixed, **options).verdict)
        side.append(register(pair.moving, pair.fixed, turned_over=not pair.flipped, **options).verdict)
    names = ("another organ", other), ("wrong side forced", side)
    told = {
        f"{what} {verdict} %": 100 * verdicts.count(verdict) / len(verdicts)
        for what, verdicts in names
        for verdict in ("good", "failed")
    }
    return {"n": len(other), **told}


def related(maps: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """Return |r| of the first map with an image, and R² of the image on a quadratic of all maps."""
    known = np.isfinite(maps).all(axis=0)
    values, signal = maps[:, known], image[known]
    columns = [np.ones_like(signal), *values] + [values[a] * values[b] for a in range(3) for b in range(a, 3)]
    design = np.stack(columns, axis=1)
    rest = signal - design @ np.linalg.lstsq(design, signal, rcond=None)[0]
    return abs(float(np.corrcoef(values[0], signal)[0, 1])), float(1 - rest.var() / signal.var())


def _clicked(pair, seed, count):
    """Landmarks as a person sets them: 0.15 mm off, spread over the tissue."""
    if not count:
        return None
    rng = np.random.default_rng([seed, 5])
    chosen = [int(rng.integers(len(pair.points_moving)))]
    while len(chosen) < count:
        away = np.linalg.norm(pair.points_moving[:, None] - pair.points_moving[chosen], axis=2).min(axis=1)
        if len(chosen) == 2:  # not on one line with the first two
            first, second = pair.points_moving[chosen, :2]
            along = (second - first) / np.linalg.norm(second - first)
            away = np.abs((pair.points_moving[:, :2] - first) @ [-along[1], along[0]])
        chosen.append(int(np.argmax(away)))
    moving, fixed = pair.points_moving[chosen].copy(), pair.points_fixed[chosen].copy()
    for points in (moving, fixed):
        points[:, :2] += rng.normal(0, 0.15 / np.sqrt(2), (count, 2))
    return np.stack([moving, fixed], axis=1)


def _turned(found, pair):
    """Angle between the true rotation of the section and the one found, degrees."""
    wanted = pair.points_fixed - pair.points_fixed.mean(axis=0)
    got = found.points(pair.points_moving)
    got = got - got.mean(axis=0)
    cross = (got[:, 0] * wanted[:, 1] - got[:, 1] * wanted[:, 0]).sum()
    return abs(np.degrees(np.arctan2(cross, (got[:, :2] * wanted[:, :2]).sum())))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=20)
    parser.add_argument("--first", type=int, default=50000, help="first seed")
    parser.add_argument("--kind", choices=["similarity", "affine", "bspline"], action="append")
    parser.add_argument("--level", choices=list(LEVELS), action="append")
    parser.add_argument("--drive", choices=["outline", "both"], default="outline")
    parser.add_argument("--engine", choices=["robust", "dipy"], default="robust")
    parser.add_argument("--landmarks", type=int, default=0, help="start from so many landmarks")
    parser.add_argument("--slices", action="store_true", help="find the slice among five")
    parser.add_argument("--livers", action="store_true", help="find the slice of simulated livers")
    parser.add_argument("--null", action="store_true", help="pairs that share nothing but the outline")
    parser.add_argument("--wrong", action="store_true", help="pairs that do not belong together")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.count)
    options = {"engine": "content" if given.drive == "both" else given.engine}
    others = {"slices": run_slices, "livers": run_livers, "null": run_null, "wrong": run_wrong}
    other = [function for name, function in others.items() if getattr(given, name)]
    for level in given.level or LEVELS:
        for kind in given.kind or ["bspline"]:
            if other:
                row = other[0](level, seeds, kind=kind, **options)
            else:
                row = run(level, seeds, kind=kind, verbose=given.verbose, landmarks=given.landmarks, **options)
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
            print(f"{level:9} {kind:10} {given.drive:8} {given.engine:7}", numbers, flush=True)


if __name__ == "__main__":
    main()
