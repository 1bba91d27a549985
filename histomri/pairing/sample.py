"""The pairs of one sample, from the folders of its maps."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.images import Image
from histomri.pairing.maps import Fits, read_mri, same_grid, slice_of
from histomri.pairing.options import PairOptions
from histomri.pairing.pair import pair_maps, pair_means
from histomri.pairing.registered import draws_refused, registration_lines
from histomri.pairing.section import read_section
from histomri.pairing.table import PairedTable
from histomri.registration import Transform, quality_warnings, registration_facts


@dataclass(frozen=True)
class SamplePairs:
    """Histology and MRI of one sample, paired."""

    table: PairedTable  # a row per voxel; per sample if only means of the whole sample could be compared
    label: str  # name of the sample
    registered: bool  # whether voxels were paired
    warnings: tuple[str, ...]  # reservations about transform and pairs
    histology: str = ""  # which numbers of the section were paired

    def save(self, out: Path, options: PairOptions) -> list[Path]:
        """Write the table that the options ask for, and `voxel_out` where voxels were paired; return all files."""
        folders, files = (options.histo_dir, options.mri_dir), (options.xfm, options.mask)
        sources = [*folders, *(path for path in files if path is not None)]
        outputs = (self.table.summarised() if options.per == "sample" else self.table).save(out, sources)
        if options.voxel_out is not None and self.registered:
            outputs += self.table.save(options.voxel_out, sources)
        return outputs

    def summary(self) -> dict[str, Any]:
        """Return the numbers of voxels of each fit; a table without a single pair is an error."""
        rows = self.table.per_sample()
        counts = ["n_voxels", "n_without_histology", "n_failed"]
        types = {"model": str, "strategy": str, **dict.fromkeys(counts, int), "at_bound_share": float}
        cases = [{name: kind(row[name]) for name, kind in types.items()} for row in rows.to_dict("records")]
        voxels = max((case["n_voxels"] for case in cases), default=0)
        if voxels == 0:
            problem = f"{self.label}: not a single voxel is measured on both sides"
            raise InputError(problem, hint="check the transform, the mask, and that both sides are of one sample")
        found = {"sample": self.label, "registered": self.registered, "n_voxels": voxels, "cases": cases}
        return found | dict(self.table.parameters)

    def lines(self) -> tuple[str, ...]:
        """Return what was paired, and what the registration does to the correlations."""
        record = self.table.parameters.get("registration", {}).get(self.label, {})
        return (self.message(), *registration_lines(record))

    def message(self) -> str:
        """Return what was paired."""
        summary = self.summary()
        how = "voxel by voxel" if self.registered else "means of the whole sample, without registration"
        text = f"{self.label}: {len(summary['cases'])} fits paired with histology, {how}"
        left_out = max(case["n_without_histology"] for case in summary["cases"])
        text += f"; up to {summary['n_voxels']} voxels"
        text += f"; {self.histology}" if self.histology else ""
        return text + (f"; {left_out} fitted voxels have no histology" if left_out else "")


def pair_folders(options: PairOptions, out: Path) -> SamplePairs:
    """Pair the maps of one sample.

    The folders of the options hold ``*_param-<map>_histomap.nii.gz`` (uncorrected maps are not used) and
    ``*_dwimap.nii.gz``, in them or in direct subfolders; model and strategy come from the sidecars. Without a transform
    both sides must share a grid, or (per sample) means are compared. It must be possible to write the table to `out`
    before anything is computed.

    Raises
    ------
    InputError
        If a folder or map is missing, or there is not a single pair; GeometryError if the sides lie on different grids
        and there is no transform.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise InputError("a table is written as .csv or .parquet", path=out, hint="change the ending of --out")
    require_folder(out.parent)
    for path in (out, out.with_suffix(".json"), *([options.voxel_out] if options.voxel_out is not None else [])):
        refuse_overwrite(path, (options.xfm, options.mask))
    section = read_section(options.histo_dir, options.size, errors=True)
    fits, common, mri_names = read_mri(options.mri_dir, errors=True, within_bounds=True)
    transform = Transform.load(options.xfm) if options.xfm is not None else None
    label = options.sample or _label([*section.names, *mri_names], options.xfm) or options.histo_dir.resolve().name
    how: dict[str, Any] = {"sample": label, "group": options.group, "scanner": options.scanner, "common": common}
    how["mask"] = Image.load(options.mask) if options.mask is not None else None
    refused: tuple[str, ...] = ()
    registered = options.per == "voxel" or transform is not None or _have_common_grid(section.maps, fits, options.slice)
    if registered:
        draws, refused = _draws(options, transform)
        table = pair_maps(section, fits, transform, mri_slice=options.slice, draws=draws, **how)
    else:
        table = pair_means(section, fits, **how)
    if options.patient is not None:
        table = table.of_patient(options.patient)
    warnings = list(refused)
    if transform is not None and options.xfm is not None:
        warnings += quality_warnings(transform, options.xfm)
        tilt = transform.info.get("Registration", {}).get("QualityControl", {}).get("tilt_deg", (0.0, 0.0))
        if any(tilt):  # the section crosses several slices, and pairs are made in one
            text = f"the section is tilted by {tilt[0]:g} and {tilt[1]:g} degrees against the slices"
            warnings.append(f"{text}: only what lies within half a slice of the paired one has pairs")
    pairs = SamplePairs(table, label, registered, (*warnings, *table.warnings), section.sentence())
    pairs.summary()  # raises if there is no pair
    return pairs


def _draws(options: PairOptions, transform: Transform | None) -> tuple[int, tuple[str, ...]]:
    """Return how many transforms are drawn, and why there are none where a person who did not ask should know."""
    reason = draws_refused(transform)
    if options.draws:
        if reason is not None:
            raise InputError(reason[0], path=options.xfm, hint=reason[1])
        return options.draws, ()
    if options.draws is not None or not options.draws_by_default or transform is None:
        return 0, ()
    open_question = reason is not None and (registration_facts(transform) or {}).get("open")
    text = f"what the error of the registration does to r is not known: {reason[0]}" if reason and open_question else ""
    return (0 if reason else options.draws_by_default), ((text,) if text else ())


def _label(names: list[dict[str, str]], xfm: Path | None) -> str | None:
    """Return the one sample that all file names agree on; several are an error."""
    labels = {name["sub"] for name in names if "sub" in name}
    if xfm is not None and (match := re.match(r"sub-([0-9A-Za-z]+)_", xfm.name)):
        labels.add(match[1])
    if len(labels) > 1:
        problem = f"histology, MRI and transform are of different samples: {', '.join(sorted(labels))}"
        raise InputError(problem, hint="give folders of one sample, or --sample NAME if they are one")
    return labels.pop() if labels else None


def _have_common_grid(histology: dict[str, Image], fits: Fits, k: int | None) -> bool:
    one, other = next(iter(histology.values())), next(iter(next(iter(fits.values())).values()))
    if other.data.ndim == 2 or k is not None:
        return same_grid(one, slice_of(other, k))
    return any(same_grid(one, other.slice(position)) for position in range(other.data.shape[2]))
