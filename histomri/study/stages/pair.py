"""The stage `pair`: folders of histology and MRI maps in, a table of pairs out."""

import re
from pathlib import Path
from typing import Any, Literal

from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.images import Image
from histomri.pairing import PairedTable, pair_maps, pair_means
from histomri.pairing.folders import Fits, read_histology, read_mri
from histomri.pairing.grids import same_grid, slice_of
from histomri.registration import Transform, quality_warnings
from histomri.study.result import StepResult


def run_pair(
    histo_dir: Path,
    mri_dir: Path,
    out: Path,
    *,
    xfm: Path | None = None,
    per: Literal["voxel", "sample"] = "voxel",
    sample: str | None = None,
    patient: str | None = None,
    group: str | None = None,
    scanner: str | None = None,
    mask: Path | None = None,
    slice: int | None = None,
    voxel_out: Path | None = None,
) -> StepResult:
    """Pair histology and MRI maps and write the table.

    Parameters
    ----------
    histo_dir : Path
        Folder with ``*_param-<map>_histomap.nii.gz``; uncorrected maps are not used.
    mri_dir : Path
        Folder with ``*_dwimap.nii.gz``, in it or in its direct subfolders; model and strategy come from the sidecars.
    out : Path
        The table, .csv or .parquet.
    xfm : Path, optional
        Transform from histology to MRI. Without it both sides must share a grid, or (per sample) means are compared.
    per : {"voxel", "sample"}
        What a row is.
    sample, patient, group, scanner : str
        Labels; the sample is taken from the file names if not given, and there is no column of patients without one.
    mask : Path, optional
        Voxels to use, on the grid of the MRI.
    slice : int, optional
        MRI slice; by default the one in which the transform puts the histology.
    voxel_out : Path, optional
        With `per` = "sample": the table of the voxels too, if there is one (not for means without registration).

    Raises
    ------
    InputError
        If a folder or map is missing; GeometryError if the sides lie on different grids and there is no transform.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise InputError("a table is written as .csv or .parquet", path=out, hint="change the ending of --out")
    if per not in ("voxel", "sample"):
        raise InputError(f"--per {per} is neither voxel nor sample")
    require_folder(out.parent)
    for path in (out, out.with_suffix(".json"), *([voxel_out] if voxel_out is not None else [])):
        refuse_overwrite(path, (xfm, mask))
    histology, names = read_histology(histo_dir)
    fits, common, mri_names = read_mri(mri_dir)
    transform = Transform.load(xfm) if xfm is not None else None
    mask_image = Image.load(mask) if mask is not None else None
    label = sample or _label([*names, *mri_names], xfm) or histo_dir.resolve().name
    alone = per == "sample" and transform is None and not _share_grid(histology, fits, slice)
    if alone:
        table = pair_means(histology, fits, mask=mask_image, common=common, sample=label, group=group, scanner=scanner)
    else:
        table = pair_maps(
            histology,
            fits,
            transform,
            mri_slice=slice,
            mask=mask_image,
            common=common,
            sample=label,
            group=group,
            scanner=scanner,
        )
    if patient is not None:
        table = table.of_patient(patient)
    sources = [histo_dir, mri_dir, *([xfm] if xfm else []), *([mask] if mask else [])]
    message, summary = _say(table, label, alone)
    outputs = (table.summarised() if per == "sample" else table).save(out, sources)
    if voxel_out is not None and not alone:
        outputs += table.save(voxel_out, sources)
    doubts = () if xfm is None or transform is None else quality_warnings(transform, xfm)
    warnings = (*doubts, *([] if transform is None else _tilt(transform)), *table.warnings)
    return StepResult(tuple(outputs), (message,), warnings, summary)


def _tilt(transform: Transform) -> list[str]:
    """Say what a tilted section loses: it crosses several slices, and pairs are made in one."""
    tilt = transform.info.get("Registration", {}).get("QualityControl", {}).get("tilt_deg", (0.0, 0.0))
    if not any(tilt):
        return []
    return [
        f"the section is tilted by {tilt[0]:g} and {tilt[1]:g} degrees against the slices: only what lies within half "
        "a slice of the paired one has pairs"
    ]


def _label(names: list[dict[str, str]], xfm: Path | None) -> str | None:
    """Return the one sample that all file names speak of; several are an error, as pairs of two samples say nothing."""
    labels = {name["sub"] for name in names if "sub" in name}
    if xfm is not None and (match := re.match(r"sub-([0-9A-Za-z]+)_", xfm.name)):
        labels.add(match[1])
    if len(labels) > 1:
        raise InputError(
            f"histology, MRI and transform are of different samples: {', '.join(sorted(labels))}",
            hint="give folders of one sample, or --sample NAME if they are one",
        )
    return labels.pop() if labels else None


def _share_grid(histology: dict[str, Image], fits: Fits, k: int | None) -> bool:
    one, other = next(iter(histology.values())), next(iter(next(iter(fits.values())).values()))
    slices = (
        [slice_of(other, k)] if other.data.ndim == 2 or k is not None else map(other.slice, range(other.data.shape[2]))
    )
    return any(same_grid(one, candidate) for candidate in slices)


def _say(table: PairedTable, label: str, alone: bool) -> tuple[str, dict[str, Any]]:
    """Return the message and the summary; a table without a single pair is an error, before anything is written."""
    rows = table.per_sample()
    cases = [
        {
            "model": row["model"],
            "strategy": row["strategy"],
            "n_voxels": int(row["n_voxels"]),
            "n_without_histology": int(row["n_without_histology"]),
            "n_failed": int(row["n_failed"]),
            "at_bound_share": float(row["at_bound_share"]),
        }
        for _, row in rows.iterrows()
    ]
    voxels = max((case["n_voxels"] for case in cases), default=0)
    if voxels == 0:
        raise InputError(
            f"{label}: not a single voxel is measured on both sides",
            hint="check the transform, the mask, and that both sides are of one sample",
        )
    how = "means of the whole sample, without registration" if alone else "voxel by voxel"
    message = f"{label}: {len(cases)} fits paired with histology, {how}; up to {voxels} voxels"
    left_out = rows["n_without_histology"].max()
    if left_out:
        message += f"; {int(left_out)} fitted voxels have no histology"
    summary = {"sample": label, "registered": not alone, "n_voxels": voxels, "cases": cases, **table.parameters}
    return message, summary
