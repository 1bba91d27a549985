"""The options of `histomri fit`, `t2ivim`, `dki` and `crlb`."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from histomri.core.options import Choices, Flag, Number, Positive, Seed, Text, Whole, argument, check, given, option
from histomri.core.presets import PresetName, Strategy
from histomri.fitting.bounds import BloodT2, parse_bound
from histomri.fitting.models import MODEL_NAMES
from histomri.mri.options import PROTOCOL, ImagesOptions, Protocol, TimedOptions


def _bound(text: str) -> str:
    parse_bound(text)
    return text


ModelName = Annotated[str, Choices(MODEL_NAMES)]
Models = Annotated[tuple[ModelName, ...], Field(min_length=1)]
Sigma = Positive | Literal["estimate", "mppca", "piesno"] | Path
Threshold = Annotated[Number, Field(ge=0)]
Kurtosis = Literal["free"] | Annotated[Number, Field(ge=0, le=5)]
_PRESET = "Default: that of a protocol of the same name, else "
_SIGMA = "Noise level in units of the signal, a NIfTI map, or from the images: estimate (MP-PCA), piesno."
_KURTOSIS = "Kurtosis of the tissue in T2-IVIM: free, or a number to hold it at; 0 is the published model."
Bounds = tuple[Annotated[Text, check(_bound)], ...]
_BOUND = "Bounds of a parameter, in place of the preset's; may be repeated."
_BLOOD_T2 = "T2 of blood: in the preset's bounds, free (20 to 1000), held as at 1.5t or 3t, or at a number."
_ROI = "NIfTI image of labels on the grid of the images: the mean of each label is fitted too, in a table."
_ROI_NAMES = "Table of the labels: columns label (or index) and name."
_MASK = "NIfTI mask; voxels above 0 are fitted."
_BMIN = "Fit b above this, in place of --strategy."


def _several(count: int) -> int:
    if count == 1:
        raise ValueError("1 repeat has no spread; give 0, or 2 or more")
    return count


def check_roi(options: Any) -> None:
    """Raise ValueError for a label image without a noise level, or names without a label image."""
    if options.roi is not None and options.sigma is None:
        raise ValueError("the mean over a label of {roi} is corrected for the noise; give {sigma}")
    if options.roi_names is not None and options.roi is None:
        raise ValueError("{roi_names} is given, and no {roi} whose labels have names")


class FitOptions(ImagesOptions, TimedOptions):
    """Fit tissue models to diffusion images: cell size, intra-cellular fraction, cell density.

    Example: histomri fit dwi.nii.gz --protocol mouse-exvivo --mask mask.nii.gz --sigma 12 --model diff-in -o mri
    Example: histomri fit dwi.nii.gz --protocol invivo-3t --mask mask.nii.gz --sigma estimate -o mri
    """

    mask: Path | None = given(None, _MASK)
    sigma: Sigma | None = given(None, _SIGMA)
    s0: Path | None = given(None, "NIfTI map of S0; without it, see --t2ivim.")
    fv: Path | None = given(None, "NIfTI map of the vascular fraction.")
    t2t: Path | None = given(None, "NIfTI map of the tissue T2, ms.")
    models: Models = option(("diff-in", "diff-in-ex"), "Model to fit; may be repeated.", flag="--model")
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = option(
        ("whole", "high-b"),
        "The preset's b threshold; may be repeated, and each of several has a folder in --out.",
        flag="--strategy",
    )
    preset: PresetName | None = option(None, f"Bounds and thresholds. {_PRESET}mouse-exvivo.")
    bmin: Threshold | None = option(None, _BMIN, unit="s/mm²")
    noise: Literal["offset-gaussian", "rician", "none"] | None = option(
        None, "Objective: offset-gaussian (default with --sigma), rician, or none: least squares."
    )
    robust: Literal["loo", "tukey", "none"] | None = option(
        None,
        "Bad measurements: loo leaves them out if the others fit (default with --sigma), tukey weighs them down.",
    )
    bic: Literal["schwarz", "paper"] = option("schwarz", "P ln N - 2 ln λ; or paper: P ln N - ln λ, as in its Eq. 15.")
    t2ivim: Flag | None = option(
        None,
        "Fit S0, fV and T2 first, from all volumes; default: in vivo, with several TE, if they are not given.",
        flag="--t2ivim/--no-t2ivim",
    )
    kurtosis: Kurtosis = option("free", _KURTOSIS)
    blood_t2: BloodT2 = option("preset", _BLOOD_T2, unit="ms")
    bounds: Bounds = option((), f"{_BOUND} Also those of T2-IVIM.", flag="--bound", metavar="NAME=LOW,HIGH")
    dictionary: tuple[Path, Path] | None = option(
        None,
        "Simulated signals (.npy, a row each) and their parameters (.npy, .csv), to interpolate and fit.",
        metavar="SIGNALS PARAMS",
    )
    dictionary_table: Path | None = option(
        None, "The same as one table: columns of parameters, then of signals s0, s1, ..."
    )
    parameter_names: tuple[Text, ...] | None = option(
        None, "Names of the columns of PARAMS.npy.", flag="--names", metavar="fI,vCS", commas=True
    )
    residuals: Flag = option(
        False, "Write residual maps: per measurement, and per voxel. Their statistics are always written."
    )
    bootstrap: Annotated[Whole, Field(ge=0), check(_several)] = option(
        0, "Repeats of a bootstrap, for spread and 95 % intervals; try 100."
    )
    bootstrap_kind: Literal["parametric", "residual"] = option(
        "parametric", "parametric: new noise of level --sigma; residual: the voxel's own residuals."
    )
    seed: Seed = option(0, "Seed of the bootstrap.")
    crlb: Flag = option(False, "Write what this protocol can determine at this noise; see histomri crlb.")
    dki: Flag = option(True, "Whether a study maps ADC and kurtosis too.", hidden=True)
    strategy_folders: Flag | None = option(
        None, "Whether each strategy has a folder; default: if there are several.", hidden=True
    )

    roi: Path | None = option(None, _ROI)
    roi_names: Path | None = option(None, _ROI_NAMES)
    size_cv: Annotated[tuple[Annotated[Number, Field(ge=0, le=1)], ...], Field(max_length=2)] = option(
        (),
        "CV of cell diameters from histology[, its error]: a map of cells per volume, cellNV, too.",
        metavar="CV[,SE]",
        commas=True,
    )
    maps: Flag = option(True, "Fit each voxel and write maps; without it, the labels of --roi alone.")

    @property
    def fitted_models(self) -> tuple[str, ...]:
        """The models to fit: none by default where there is a dictionary."""
        return self.models if "models" in self.model_fields_set or not self._has_dictionary else ()

    @property
    def fitted_strategies(self) -> tuple[str | None, ...]:
        """The strategies; None for a threshold that stands in their place."""
        by_threshold = self.bmin is not None and "strategies" not in self.model_fields_set
        return (None,) if by_threshold else tuple(dict.fromkeys(self.strategies))

    @property
    def has_folders(self) -> bool:
        """Whether the maps of each strategy have a folder."""
        return len(self.fitted_strategies) > 1 if self.strategy_folders is None else self.strategy_folders

    @property
    def _has_dictionary(self) -> bool:
        return self.dictionary is not None or self.dictionary_table is not None

    @model_validator(mode="after")
    def _do_not_contradict(self) -> "FitOptions":
        if self.dictionary is not None and self.dictionary_table is not None:
            raise ValueError("{dictionary} and {dictionary_table} are two dictionaries; leave one out")
        if self.parameter_names and self.dictionary is None:
            raise ValueError("{parameter_names} is given, and no {dictionary} whose columns need names; leave it out")
        if self.t2ivim and (self.s0, self.fv, self.t2t) != (None, None, None):
            raise ValueError("S0, fV or T2 are given, and {t2ivim} would fit them; leave {t2ivim} or the maps out")
        if (self.sigma is None or self.noise == "none") and self.robust not in (None, "none"):
            raise ValueError(
                "{robust} " + str(self.robust) + " needs the noise level; give {sigma}, and no {noise} none"
            )
        if self.sigma is None:
            if self.noise not in (None, "none"):
                raise ValueError(f"the {self.noise} likelihood needs the noise level; give {{sigma}}")
            if self.bootstrap and self.bootstrap_kind == "parametric":
                raise ValueError(
                    "the parametric bootstrap needs the noise level; give {sigma}, or {bootstrap_kind} residual"
                )
            if self.crlb:
                raise ValueError("{crlb} needs the noise level; give {sigma}")
        return self

    @model_validator(mode="after")
    def _have_what_they_need(self) -> "FitOptions":
        if self.crlb and not self.fitted_models:
            raise ValueError("{crlb} needs a model, and a dictionary is none; name a model with {models}")
        check_roi(self)
        if not self.maps and self.roi is None:
            raise ValueError("without {maps} only labels are fitted; give {roi}")
        if not self.maps and (self.bootstrap or self.residuals):
            raise ValueError("{residuals} and {bootstrap} are of voxels, and {maps} is off; leave one out")
        return self


class T2IvimOptions(ImagesOptions, TimedOptions):
    """Fit blood and tissue to all volumes: S0, vascular fraction fV and tissue T2, which `fit` divides by.

    One echo time gives plain IVIM: S0, fV and the diffusivities, without T2.

    Example: histomri t2ivim dwi.nii.gz --protocol invivo-3t --mask mask.nii.gz -o mri
    """

    dwi: Path = argument("4D NIfTI of diffusion images with several b, and TE.")
    mask: Path | None = given(None, _MASK)
    sigma: Sigma | None = given(None, _SIGMA)
    preset: PresetName | None = option(None, f"Bounds. {_PRESET}invivo-3t.")
    kurtosis: Kurtosis = option("free", _KURTOSIS)
    blood_t2: BloodT2 = option("preset", _BLOOD_T2, unit="ms")
    bounds: Bounds = option((), _BOUND, flag="--bound", metavar="NAME=LOW,HIGH")
    needs_timing: ClassVar[bool] = False
    roi: Path | None = option(None, _ROI)
    roi_names: Path | None = option(None, _ROI_NAMES)

    @model_validator(mode="after")
    def _know_the_noise_of_labels(self) -> "T2IvimOptions":
        check_roi(self)
        return self


class DkiOptions(ImagesOptions):
    """Fit the apparent diffusion coefficient and the excess kurtosis, for which b is enough.

    Example: histomri dki dwi.nii.gz --protocol mouse-exvivo --mask mask.nii.gz -o mri
    """

    mask: Path | None = given(None, _MASK)
    sigma: Sigma | None = given(None, _SIGMA)
    noise: Literal["offset-gaussian", "none"] | None = option(
        None, "Objective: offset-gaussian (default with --sigma), or none: least squares."
    )
    bounds: Bounds = option(
        (), "Bounds of ADC, µm²/ms, or K; may be repeated.", flag="--bound", metavar="NAME=LOW,HIGH"
    )
    preset: PresetName | None = option(
        None, f"Measurements: ex vivo TE 45, Δ 30 ms where present; in vivo b > 100 s/mm². {_PRESET}mouse-exvivo."
    )
    bmin: Threshold | None = option(None, "Use b above this.", unit="s/mm²")
    bmax: Positive = option(3000.0, "Use b up to this.", unit="s/mm²")
    te: Positive | None = option(None, "Use this echo time only.", unit="ms")
    big_delta: Positive | None = option(None, "Use this diffusion time Δ only.", unit="ms")
    roi: Path | None = option(None, _ROI)
    roi_names: Path | None = option(None, _ROI_NAMES)

    @model_validator(mode="after")
    def _have_noise_level(self) -> "DkiOptions":
        if self.sigma is None and self.noise == "offset-gaussian":
            raise ValueError("the offset-gaussian likelihood needs the noise level; give {sigma}")
        check_roi(self)
        return self


class CrlbOptions(TimedOptions):
    """Find what a protocol can determine: the smallest standard deviations that any fit can have (Cramér-Rao).

    Example: histomri crlb invivo-3t --snr 30 --model diff-in --model diff-in-ex -o crlb
    """

    protocol: Protocol = argument(PROTOCOL)
    snr: Positive = option(30.0, "Signal at b = 0 and the shortest echo time over the noise level.")
    models: Models = option(("diff-in",), "Model to judge; may be repeated.", flag="--model")
    preset: PresetName | None = option(None, f"Bounds and thresholds. {_PRESET}mouse-exvivo.")
    strategy: Strategy | None = option(None, "The preset's b threshold; by default, both.")
    bmin: Threshold | None = option(None, _BMIN, unit="s/mm²")
    t2t: Positive | None = option(None, "T2 of the tissue, by which later echoes are noisier.", unit="ms")
