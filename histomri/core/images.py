"""Maps on disk: one NIfTI file per quantity, a JSON sidecar beside it, BIDS-derivative names.

A map keeps in the file the index order it has in memory. Its affine alone says where it lies in the world
(voxel index to RAS+ mm, the NIfTI convention), so nothing may rely on the order of the axes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, provenance, read_json, write_json
from histomri.core.files import sidecar_path as sidecar_path
from histomri.core.nifti import open_nifti as open_nifti
from histomri.core.nifti import read_voxels as read_voxels

Suffix = Literal["histomap", "dwimap"]

# Name -> (unit, description); the contract of the sidecars.
HISTOLOGY_MAPS: dict[str, tuple[str, str]] = {
    "vCS": ("um", "Volume-weighted cell size"),
    "aCS": ("um", "Arithmetic mean cell size"),
    "sdCS": ("um", "Standard deviation of cell size"),
    "skewCS": ("1", "Fisher-Pearson skewness of cell size"),
    "F": ("1", "Intra-cellular area fraction"),
    "CD": ("mm^-2", "Cell density per unit area"),
    "CDvol": ("mm^-3", "Cell density per unit volume"),
    "nCells": ("1", "Number of cells used"),
    "nucleiNV": ("mm^-3", "Nuclei per volume of living tissue"),
    "cellNV": ("mm^-3", "Cells per volume of living tissue"),
    "Dvol": ("um", "Diameter of a sphere with the mean volume of a cell"),
    "vCSvol": ("um", "Volume-weighted cell size, model-based: cells are taken to vary as their nuclei do"),
    "rimSize": ("um", "Volume-weighted size of nuclei with their rim, not of cells"),
    "rimFraction": ("1", "Share of the area within the rims of nuclei, not of cells"),
    "tissueFraction": ("1", "Fraction of the patch inside the tissue or the imaged field"),
}
MRI_MAPS: dict[str, tuple[str, str]] = {
    "F": ("1", "Intra-cellular signal fraction of the voxel"),
    "fI": ("1", "Intra-cellular fraction of the tissue signal"),
    "vCS": ("um", "Volume-weighted cell size (sphere diameter)"),
    "CD": ("mm^-3", "Cell density as Grussu et al. 2025 define it, F/vCS^3; not a number of cells per volume"),
    "CDsphere": ("mm^-3", "Cells per unit volume if all are spheres of one diameter, 6F/(pi vCS^3)"),
    "cellNV": ("mm^-3", "Cells per unit volume, 6F/(pi vCS^3) (1 + CV^2)^10.5, with the CV of their diameters"),
    "D0I": ("um^2/ms", "Intrinsic intra-cellular diffusivity"),
    "DEinf": ("um^2/ms", "Extra-cellular diffusion coefficient at infinite diffusion time"),
    "beta": ("um^2", "Extra-cellular diffusion time dependence"),
    "S0": ("signal", "Signal without diffusion weighting"),
    "fV": ("1", "Vascular (or free fluid) signal fraction"),
    "T2T": ("ms", "Tissue T2"),
    "ADC": ("um^2/ms", "Apparent diffusion coefficient"),
    "K": ("1", "Apparent excess kurtosis"),
    "cost": ("1", "Objective at the optimum (negative log-likelihood up to a constant, or sum of squares)"),
    "logL": ("1", "Log-likelihood at the optimum"),
    "BIC": ("1", "Bayesian information criterion"),
    "AIC": ("1", "Akaike information criterion"),
    "chi2": ("1", "Sum of squared residuals over the noise level, of the fit of all measurements"),
    "pMisfit": ("1", "Probability of a larger chi2 if the model is true"),
    "dropped": ("1", "Measurements that the fit leaves out, or weighs down to nothing"),
    "exit": ("1", "Exit code: 1 fitted, 2 a parameter is at its bound, 0 background, -1 failed"),
    "T2I": ("ms", "Intra-cellular T2"),
    "T2E": ("ms", "Extra-cellular T2"),
    "kappa": ("um/s", "Permeability of the cells' membrane"),
}
# What names of files say of maps of profiles as published, beside those of cells in three dimensions.
PAPER, PAPER_UNCORRECTED = "paper", "paperUncorrected"
STATS = {"se": "Standard error of: ", "syst": "Error common to all patches, of: "}
_TABLES: dict[str, dict[str, tuple[str, str]]] = {"histomap": HISTOLOGY_MAPS, "dwimap": MRI_MAPS}


@dataclass(frozen=True)
class Image:
    """An array and where it lies.

    Attributes
    ----------
    data : (I, J) or (I, J, K) ndarray
        Values; background is NaN.
    affine : (4, 4) ndarray
        Voxel index (i, j, k) to world, RAS+ mm. A 2D image has k = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from histomri.core.images import Image
    >>> Image(np.zeros((4, 5, 6)), np.diag([0.2, 0.2, 1.5, 1.0])).voxel_mm
    array([0.2, 0.2, 1.5])
    """

    data: FloatArray
    affine: FloatArray

    def __post_init__(self) -> None:
        if self.data.ndim not in (2, 3):
            raise GeometryError(f"an image has 2 or 3 axes, this one has {self.data.ndim}")
        if np.shape(self.affine) != (4, 4) or not np.all(np.isfinite(self.affine)):
            raise GeometryError("the affine must be a finite 4 x 4 matrix")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-12:
            raise GeometryError("the affine cannot be inverted", hint="mend the header of the image")

    @property
    def voxel_mm(self) -> FloatArray:
        """Edge lengths of a voxel, (3,) mm."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    def slice(self, k: int) -> "Image":
        """Return slice `k` of the third axis as a 2D image with the affine that puts it in the same place."""
        if self.data.ndim == 2:
            raise GeometryError("the image is two-dimensional and has no slices to choose from")
        if not 0 <= k < self.data.shape[2]:
            raise GeometryError(f"there is no slice {k}: slices run from 0 to {self.data.shape[2] - 1}")
        affine = self.affine.copy()
        affine[:, 3] = self.affine @ np.array([0.0, 0.0, k, 1.0])
        return Image(self.data[:, :, k], affine)

    @classmethod
    def load(cls, path: str | Path) -> "Image":
        """Read a 2D or 3D NIfTI image; a third axis of length one is dropped.

        Raises
        ------
        InputError
            If it is no NIfTI file, cut short, or has more than three axes.
        """
        image = open_nifti(path)
        data = read_voxels(image, path)
        while data.ndim > 3 and data.shape[-1] == 1:
            data = data[..., 0]
        if data.ndim == 3 and data.shape[2] == 1:
            data = data[..., 0]
        if data.ndim not in (2, 3):
            raise InputError(f"has {data.ndim} axes, and a single map was expected", path=path)
        try:
            return cls(data, np.asarray(image.affine, dtype=float))
        except GeometryError as error:
            raise GeometryError(error.problem, path=path, hint=error.hint) from error


def map_name(
    param: str,
    suffix: Suffix,
    *,
    sub: str | None = None,
    model: str | None = None,
    desc: str | None = None,
    stat: str | None = None,
    label: str | None = None,
) -> str:
    """Return the file name of a map, for example ``sub-1_model-diffin_param-vCS_dwimap.nii.gz``.

    The model's hyphens are dropped, because BIDS keeps them for separating keys from values. `label` is that of the
    class of cells, if the map is of one class only.

    Examples
    --------
    >>> from histomri.core.images import map_name
    >>> map_name('vCS', 'dwimap', sub='1', model='diff-in')
    'sub-1_model-diffin_param-vCS_dwimap.nii.gz'
    """
    entities = [
        ("sub", re.sub(r"[^0-9A-Za-z]", "", sub) if sub else None),
        ("model", model.replace("-", "") if model else None),
        ("param", param),
        ("label", label),
        ("stat", stat),
        ("desc", desc),
    ]
    return "_".join(f"{key}-{value}" for key, value in entities if value) + f"_{suffix}.nii.gz"


def parse_map_name(name: str) -> dict[str, str]:
    """Return the entities of a map's file name, ``{"param": "vCS", "suffix": "histomap"}``; empty if it is none."""
    match = re.fullmatch(r"((?:[a-z]+-[0-9A-Za-z]+_)+)(histomap|dwimap)\.nii(?:\.gz)?", name)
    if match is None:
        return {}
    entities = dict(part.split("-", 1) for part in match[1].rstrip("_").split("_"))
    return {**entities, "suffix": match[2]} if "param" in entities else {}


def write_map(
    path: str | Path,
    data: FloatArray,
    affine: FloatArray,
    *,
    sources: Iterable[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    dtype: DTypeLike = np.float32,
    **sidecar: Any,
) -> list[Path]:
    """Write a map as NIfTI (float32, sform and qform set, mm) with its JSON sidecar; both are atomic.

    Parameters
    ----------
    path : path-like
        A name made by `map_name`, or any name if `Units` and `Description` are given in `sidecar`.
    data : (I, J) or (I, J, K) ndarray
        Values; a 2D map gets a third axis of length one.
    affine : (4, 4) ndarray
        Voxel index to RAS+ mm.
    sources, parameters
        Input files and settings, for the sidecar.
    dtype : dtype
        Type of the voxels in the file, for labels.
    **sidecar
        Further keys, such as ``Model="diff-in"``; they win over what the map's name implies.

    Returns
    -------
    list of Path
        The image and the sidecar.
    """
    path = Path(path)
    entities = parse_map_name(path.name)
    units, description = _TABLES.get(entities.get("suffix", ""), {}).get(entities.get("param", ""), (None, None))
    if description:
        description = STATS.get(entities.get("stat", ""), "") + description
    array = np.asarray(data, dtype=dtype)
    content = {"Units": units, "Description": description, **sidecar, **provenance(sources, parameters)}
    if content["Units"] is None or content["Description"] is None:
        raise ValueError(f"{path.name}: the name implies no unit or description; pass Units= and Description=")
    write_image(path, array[..., None] if array.ndim == 2 else array, affine)
    return [path, write_json(sidecar_path(path), content)]


def write_image(path: Path, data: NDArray[Any], affine: FloatArray) -> Path:
    """Write an array (I, J, K) or (I, J, K, M) as NIfTI of its own type, sform and qform set, mm; atomic."""
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Return the sidecar of a NIfTI file, empty if there is none.

    Raises
    ------
    InputError
        If it exists and is not a JSON object.
    """
    sidecar = sidecar_path(path)
    if not sidecar.exists():
        return {}
    content = read_json(sidecar, "sidecar")
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", path=sidecar)
    return content
